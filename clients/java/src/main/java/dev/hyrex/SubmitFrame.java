package dev.hyrex;

import com.google.protobuf.ByteString;
import dev.hyrex.v1.Headers;
import dev.hyrex.v1.NewTask;
import dev.hyrex.v1.StreamSubmitRequest;
import dev.hyrex.v1.StreamSubmitResponse;
import dev.hyrex.v1.SubmitOutcome;
import dev.hyrex.v1.SubmitResult;
import dev.hyrex.v1.TaskGroup;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.UUID;

/** A frame of StreamSubmit: tasks of equal terms put together, and the results in the order of the tasks. */
final class SubmitFrame {
  private static final int FRAME_TASKS = 100;
  private static final int FRAME_BYTES = 1 << 20;

  private final long sequence;
  private final List<NewTask> tasks = new ArrayList<>();
  /** Which task is at each place of the frame. */
  private final List<Integer> order = new ArrayList<>();
  private final List<SubmitResult> results = new ArrayList<>();

  private SubmitFrame(long sequence) {
    this.sequence = sequence;
  }

  /** Frames of at most 100 tasks and 1 MiB, or of one task. */
  static List<SubmitFrame> of(List<NewTask> tasks) {
    var frames = new ArrayList<SubmitFrame>();
    int size = FRAME_BYTES;
    for (NewTask task : tasks) {
      size += task.getSerializedSize();
      if (size > FRAME_BYTES || frames.get(frames.size() - 1).tasks.size() == FRAME_TASKS) {
        size = task.getSerializedSize();
        frames.add(new SubmitFrame(frames.size()));
      }
      frames.get(frames.size() - 1).tasks.add(task);
    }
    return frames;
  }

  StreamSubmitRequest request() {
    var members = new LinkedHashMap<NewTask, List<Integer>>();
    for (int at = 0; at < tasks.size(); at++) {
      NewTask terms = tasks.get(at).toBuilder().clearTaskId().clearPayload().clearHeaders().clearIdempotencyKey().build();
      members.computeIfAbsent(terms, each -> new ArrayList<>()).add(at);
    }
    order.clear();
    members.values().forEach(order::addAll);
    var request = StreamSubmitRequest.newBuilder().setSequence(sequence);
    members.forEach((terms, places) -> request.addGroups(group(terms, places.stream().map(tasks::get).toList())));
    return request.build();
  }

  /** Columns of what differs; one that no task needs is left out. */
  private static TaskGroup group(NewTask terms, List<NewTask> tasks) {
    var group = TaskGroup.newBuilder().setTerms(terms);
    var ids = ByteBuffer.allocate(16 * tasks.size());
    for (NewTask task : tasks) {
      putId(ids, task.getTaskId());
      group.addPayloads(task.getPayload());
    }
    if (tasks.stream().anyMatch(task -> task.getHeadersCount() > 0)) {
      tasks.forEach(task -> group.addHeaders(Headers.newBuilder().putAllHeaders(task.getHeadersMap())));
    }
    if (tasks.stream().anyMatch(task -> !task.getIdempotencyKey().isEmpty())) {
      tasks.forEach(task -> group.addIdempotencyKeys(task.getIdempotencyKey()));
    }
    return group.setTaskIds(ByteString.copyFrom(ids.flip())).build();
  }

  /** What is no id becomes zeros, which the broker refuses, alone. */
  private static void putId(ByteBuffer ids, String text) {
    UUID id;
    try {
      id = UUID.fromString(text);
    } catch (IllegalArgumentException none) {
      id = new UUID(0, 0);
    }
    ids.putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
  }

  /** Tasks that the answer does not name are stored now. */
  void answered(StreamSubmitResponse answer) {
    for (NewTask task : tasks) {
      results.add(SubmitResult.newBuilder()
          .setTaskId(task.getTaskId()).setOutcome(SubmitOutcome.SUBMIT_OUTCOME_STORED).build());
    }
    answer.getResultsList().forEach(placed -> results.set(order.get(placed.getPlace()), placed.getResult()));
  }

  List<SubmitResult> results() {
    return results;
  }
}
