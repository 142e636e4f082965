package dev.hyrex;

import com.google.protobuf.ByteString;
import com.google.protobuf.util.Durations;
import dev.hyrex.v1.AssignmentGroup;
import dev.hyrex.v1.Headers;
import dev.hyrex.v1.NodeRun;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * One run to execute, with its lease. {@code runNumber} counts every run of the task from 0, {@code attemptNumber}
 * failed and timed-out runs before this one; {@code timeout} is null where there is no limit; {@code parentId} is
 * empty at the root; {@code alone} asks for nothing beside it. {@code node} says which node of a workflow it is
 * and which results it is given, which are among its function's arguments; its default instance for other tasks.
 */
public record Assignment(
    String taskId, long token, String name, String queue, ByteString payload, String contentType, String codec,
    int runNumber, int attemptNumber, int maxRetries, int priority, Duration timeout, String parentId,
    String rootId, Instant submittedAt, Map<String, String> headers, boolean alone,
    NodeRun node) {

  /** The runs of a group. A column has no value (all have the default), one (all share it), or one for each. */
  static List<Assignment> of(AssignmentGroup group) {
    int count = group.getTokensCount();
    List<String> ids = Ids.unpacked(group.getTaskIds());
    if (ids.size() != count || group.getPayloadsCount() != count) {
      throw new IllegalArgumentException(ids.size() + " ids for " + count + " runs");
    }
    List<String> parents = Ids.unpacked(group.getParentIds());
    List<String> roots = Ids.unpacked(group.getRootIds());
    Duration timeout = group.hasTimeout() ? Duration.ofNanos(Durations.toNanos(group.getTimeout())) : null;
    List<Assignment> runs = new ArrayList<>(count);
    for (int place = 0; place < count; place++) {
      String id = ids.get(place);
      String root = value(roots, place, count, "");
      long submitted = value(group.getSubmittedAtUsList(), place, count, 0L);
      Headers headers = value(group.getHeadersList(), place, count, Headers.getDefaultInstance());
      runs.add(new Assignment(
          id, group.getTokens(place), group.getName(), group.getQueue(), group.getPayloads(place),
          group.getContentType(), group.getCodec(), value(group.getRunNumbersList(), place, count, 0),
          value(group.getAttemptNumbersList(), place, count, 0), group.getMaxRetries(), group.getPriority(),
          timeout, value(parents, place, count, ""), root.isEmpty() ? id : root,
          Instant.EPOCH.plus(submitted, ChronoUnit.MICROS), headers.getHeadersMap(), group.getAlone(),
          value(group.getNodesList(), place, count, NodeRun.getDefaultInstance())));
    }
    return runs;
  }

  private static <T> T value(List<T> column, int place, int count, T usual) {
    if (column.size() > 1 && column.size() != count) {
      throw new IllegalArgumentException("a column of " + column.size() + " values for " + count + " runs");
    }
    return column.isEmpty() ? usual : column.get(column.size() == 1 ? 0 : place);
  }
}
