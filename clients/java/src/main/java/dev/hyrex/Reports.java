package dev.hyrex;

import dev.hyrex.v1.Report;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.TreeMap;

/** How runs ended: what is to be reported, and what was reported and is not acknowledged. Belongs to the session's loop. */
final class Reports {
  private static final int REPORT_RUNS = 1000;

  private final ArrayDeque<Ending> finished = new ArrayDeque<>();
  /** By report id. */
  private final TreeMap<Long, Report> sent = new TreeMap<>();
  private long lastReport;

  void add(Ending end) {
    finished.add(end);
  }

  /** The lease is void: that its run was given back is nobody's business any more. */
  void revoke(long token) {
    finished.removeIf(end -> end.report().getToken() == token && end.report().hasReleased());
  }

  boolean isDue() {
    return !finished.isEmpty();
  }

  /** The next report of what has ended, as large as a frame may be. */
  Report next(long maxFrameBytes) {
    List<Ending> ends = new ArrayList<>();
    int size = 64;
    do {
      size += finished.peek().size();
      ends.add(finished.poll());
    } while (!finished.isEmpty() && ends.size() < REPORT_RUNS && size + finished.peek().size() < maxFrameBytes);
    Report report = Ending.report(++lastReport, ends);
    sent.put(lastReport, report);
    return report;
  }

  /** What another stream must be told again. */
  Collection<Report> unacknowledged() {
    return sent.values();
  }

  /** The tokens of a report that was acknowledged: accepted, duplicate or stale, over in every case. */
  List<Long> settle(long reportId) {
    Report settled = sent.remove(reportId);
    return settled == null ? List.of() : Ending.tokens(settled);
  }
}
