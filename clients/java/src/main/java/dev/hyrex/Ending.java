package dev.hyrex;

import com.google.protobuf.ByteString;
import com.google.protobuf.util.Durations;
import dev.hyrex.v1.CompletedRuns;
import dev.hyrex.v1.Report;
import dev.hyrex.v1.RunReport;
import java.util.ArrayList;
import java.util.List;

/** How one run ended: what it returned, or (where {@code result} is null) by its report. */
record Ending(RunReport report, ByteString result) {
  private static final int COLUMNS_BYTES = 40;

  /** Bytes that it takes in a report, or a little less. */
  int size() {
    return result == null ? report.getSerializedSize() + 8 : result.size() + COLUMNS_BYTES;
  }

  /** A report: runs that returned as columns, the others one by one. */
  static Report report(long id, List<Ending> ends) {
    var report = Report.newBuilder().setReportId(id);
    var completed = CompletedRuns.newBuilder();
    List<String> ids = new ArrayList<>();
    for (Ending end : ends) {
      if (end.result == null) {
        report.addRuns(end.report);
        continue;
      }
      ids.add(end.report.getTaskId());
      completed.addTokens(end.report.getToken()).addResults(end.result)
          .addElapsedUs(Math.max(0, Durations.toMicros(end.report.getElapsed())));
    }
    if (!ids.isEmpty()) {
      report.addCompleted(completed.setTaskIds(Ids.packed(ids)));
    }
    return report.build();
  }

  /** The tokens of all runs of a report. */
  static List<Long> tokens(Report report) {
    List<Long> tokens = new ArrayList<>();
    report.getRunsList().forEach(run -> tokens.add(run.getToken()));
    report.getCompletedList().forEach(group -> tokens.addAll(group.getTokensList()));
    return tokens;
  }
}
