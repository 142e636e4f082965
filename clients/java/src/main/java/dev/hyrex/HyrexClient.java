package dev.hyrex;

import com.google.protobuf.ByteString;
import dev.hyrex.v1.CancelResult;
import dev.hyrex.v1.CancelTasksRequest;
import dev.hyrex.v1.CompleteResult;
import dev.hyrex.v1.CompleteTasksRequest;
import dev.hyrex.v1.DismissResult;
import dev.hyrex.v1.DismissTasksRequest;
import dev.hyrex.v1.GetTaskRequest;
import dev.hyrex.v1.GetWorkflowRequest;
import dev.hyrex.v1.GetWorkflowResponse;
import dev.hyrex.v1.ListTasksRequest;
import dev.hyrex.v1.ListTasksResponse;
import dev.hyrex.v1.NewTask;
import dev.hyrex.v1.ReplayTaskRequest;
import dev.hyrex.v1.RetryResult;
import dev.hyrex.v1.RetryTasksRequest;
import dev.hyrex.v1.StreamSubmitResponse;
import dev.hyrex.v1.SubmitResult;
import dev.hyrex.v1.SubmitTasksRequest;
import dev.hyrex.v1.SubmitWorkflowRequest;
import dev.hyrex.v1.Task;
import dev.hyrex.v1.TaskServiceGrpc.TaskServiceBlockingStub;
import dev.hyrex.v1.TaskServiceGrpc;
import dev.hyrex.v1.WatchTasksRequest;
import dev.hyrex.v1.WorkflowServiceGrpc;
import dev.hyrex.v1.WorkflowServiceGrpc.WorkflowServiceBlockingStub;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import java.util.stream.IntStream;

/** The producer: sends tasks, looks them up, waits for them, cancels them and runs them again. Thread-safe. */
public final class HyrexClient implements AutoCloseable {
  private static final long DEADLINE_NS = TimeUnit.SECONDS.toNanos(10);
  private static final int MOST_IDS = 1000;
  private static final SecureRandom RANDOM = new SecureRandom();

  private final Brokers brokers;
  private final List<ManagedChannel> channels;
  private final AtomicInteger current = new AtomicInteger();

  /** A client of "grpc://host:port" (several with commas). Connects when it is first used. */
  public HyrexClient(String addresses, String token) {
    brokers = new Brokers(addresses, token);
    channels = IntStream.range(0, brokers.count()).mapToObj(brokers::channel).toList();
  }

  /** A new id: a UUID of version 7, as the broker demands. */
  public static String newTaskId() {
    long high = System.currentTimeMillis() << 16 | 0x7000 | RANDOM.nextInt(0x1000);
    return new UUID(high, RANDOM.nextLong() >>> 2 | 1L << 63).toString();
  }

  /** A task with a fresh id and a JSON payload; set the other fields as you like. */
  public static NewTask.Builder newTask(String name, String queue, Object payload) {
    ByteString json = ByteString.copyFromUtf8(Json.STRICT.toJson(payload));
    return NewTask.newBuilder().setTaskId(newTaskId()).setName(name).setQueue(queue).setPayload(json);
  }

  /** Whether a task has ended for good. A status of a later version counts as not final. */
  public static boolean isFinal(Task task) {
    return switch (task.getStatus()) {
      case TASK_STATUS_COMPLETED, TASK_STATUS_FAILED, TASK_STATUS_TIMED_OUT, TASK_STATUS_CANCELLED,
          TASK_STATUS_LOST -> true;
      default -> false;
    };
  }

  /** Stores one task; returns after the commit. Safe to repeat with the same id. */
  public SubmitResult submit(NewTask task) {
    SubmitResult result = submit(List.of(task)).get(0);
    if (result.hasError()) {
      throw HyrexException.of(result.getError());
    }
    return result;
  }

  /** Stores up to 1,000 tasks; one result for each, in their order. A bad one harms no other. */
  public List<SubmitResult> submit(List<NewTask> tasks) {
    var request = SubmitTasksRequest.newBuilder().addAllTasks(tasks).build();
    return repeat(stub -> stub.submitTasks(request)).getResultsList();
  }

  /** Stores any number of tasks over one stream, in frames that do not wait for each other. */
  public List<SubmitResult> submitStream(List<NewTask> tasks) {
    return repeat(stub -> streamed(tasks, stub));
  }

  private static List<SubmitResult> streamed(List<NewTask> tasks, TaskServiceBlockingStub stub) {
    List<SubmitFrame> frames = SubmitFrame.of(tasks);
    var ended = new CompletableFuture<Void>();
    var requests = TaskServiceGrpc.newStub(stub.getChannel()).withDeadline(stub.getCallOptions().getDeadline())
        .streamSubmit(new StreamObserver<StreamSubmitResponse>() {
          @Override
          public void onNext(StreamSubmitResponse answer) {
            frames.get((int) answer.getSequence()).answered(answer);
          }

          @Override
          public void onError(Throwable failure) {
            ended.completeExceptionally(HyrexException.of(failure));
          }

          @Override
          public void onCompleted() {
            ended.complete(null);
          }
        });
    frames.forEach(frame -> requests.onNext(frame.request()));
    requests.onCompleted();
    join(ended);
    if (frames.stream().anyMatch(frame -> frame.results().isEmpty())) {
      throw Status.UNAVAILABLE.withDescription("the broker ended the stream").asRuntimeException();
    }
    return frames.stream().flatMap(frame -> frame.results().stream()).toList();
  }

  /** One task with its runs and payload. */
  public Task get(String taskId) {
    var request = GetTaskRequest.newBuilder().setTaskId(taskId).build();
    return repeat(stub -> stub.getTask(request)).getTask();
  }

  /** Tasks, newest first, page by page. */
  public ListTasksResponse list(ListTasksRequest request) {
    return repeat(stub -> stub.listTasks(request));
  }

  /** Asks for tasks to end. Once answered, a cancelled task never runs again. */
  public List<CancelResult> cancel(List<String> taskIds, String reason) {
    var request = CancelTasksRequest.newBuilder().addAllTaskIds(taskIds).setReason(reason).build();
    return repeat(stub -> stub.cancelTasks(request)).getResultsList();
  }

  /** Makes finished tasks run once more. Not repeated by itself: a second one may requeue again. */
  public List<RetryResult> retry(List<String> taskIds) {
    var request = RetryTasksRequest.newBuilder().addAllTaskIds(taskIds).build();
    try {
      return stub(DEADLINE_NS).retryTasks(request).getResultsList();
    } catch (StatusRuntimeException failure) {
      throw HyrexException.of(failure);
    }
  }

  /** Takes dead letters off their list. */
  public List<DismissResult> dismiss(List<String> taskIds) {
    var request = DismissTasksRequest.newBuilder().addAllTaskIds(taskIds).build();
    return repeat(stub -> stub.dismissTasks(request)).getResultsList();
  }

  /** Ends up to 1,000 tasks that wait for a call from outside, all in the way that the request says. */
  public List<CompleteResult> complete(CompleteTasksRequest request) {
    return repeat(stub -> stub.completeTasks(request)).getResultsList();
  }

  /** Stores a root and its nodes, or nothing; its result may be a refusal, whose metadata name the node. */
  public SubmitResult submitWorkflow(SubmitWorkflowRequest request) {
    return repeat(stub -> workflows(stub).submitWorkflow(request)).getRoot();
  }

  /** A workflow by the id of its root or of any node: the graph and how each node stands. */
  public GetWorkflowResponse getWorkflow(String taskId) {
    var request = GetWorkflowRequest.newBuilder().setTaskId(taskId).build();
    return repeat(stub -> workflows(stub).getWorkflow(request));
  }

  /** Stores a new task like an earlier one; its result may be a refusal. */
  public SubmitResult replay(ReplayTaskRequest request) {
    return repeat(stub -> stub.replayTask(request)).getResult();
  }

  /** Watches tasks until all are final or time is up; returns them as they stand, in the order asked. */
  public List<Task> await(List<String> taskIds, Duration patience) {
    long deadline = System.nanoTime() + patience.toNanos();
    var seen = new ConcurrentHashMap<String, Task>();
    var watches = new ArrayList<CompletableFuture<Void>>();
    for (int from = 0; from < taskIds.size(); from += MOST_IDS) {
      List<String> ids = taskIds.subList(from, Math.min(from + MOST_IDS, taskIds.size()));
      watches.add(CompletableFuture.runAsync(() -> watch(ids, seen, deadline), each -> new Thread(each).start()));
    }
    watches.forEach(HyrexClient::join);
    return taskIds.stream().map(id -> seen.containsKey(id) ? seen.get(id) : get(id)).toList();
  }

  private void watch(List<String> ids, Map<String, Task> seen, long deadline) {
    var request = WatchTasksRequest.newBuilder().addAllTaskIds(ids).build();
    for (long left = 1; left > 0 && !ids.stream().allMatch(id -> seen.containsKey(id) && isFinal(seen.get(id)));) {
      try {
        stub(deadline - System.nanoTime()).watchTasks(request).forEachRemaining(
            change -> change.getTasksList().forEach(task -> seen.put(task.getTaskId(), task)));
      } catch (StatusRuntimeException failure) {
        if (failure.getStatus().getCode() == Status.Code.DEADLINE_EXCEEDED) {
          return;
        }
        rotateOrThrow(HyrexException.of(failure), true);
      }
      left = deadline - System.nanoTime();
      sleep(Math.min(Brokers.jittered(200), Math.max(left / 1_000_000, 0)));
    }
  }

  /** Makes a call that may be repeated: until the deadline, on whichever broker answers. */
  private <A> A repeat(Function<TaskServiceBlockingStub, A> call) {
    long deadline = System.nanoTime() + DEADLINE_NS;
    for (long pause = 50;; pause = Math.min(pause * 2, 1000)) {
      try {
        return call.apply(stub(deadline - System.nanoTime()));
      } catch (StatusRuntimeException | HyrexException failure) {
        rotateOrThrow(HyrexException.of(failure), System.nanoTime() + pause * 1_000_000 < deadline);
      }
      sleep(Brokers.jittered(pause));
    }
  }

  /** Turns to the next broker, where the failure may pass and it was not the caller who ended the call. */
  private void rotateOrThrow(HyrexException error, boolean inTime) {
    boolean stopped = Thread.currentThread().isInterrupted() || Context.current().isCancelled() || channel().isShutdown();
    if (!inTime || stopped || !error.mayPass()) {
      throw error;
    }
    current.incrementAndGet();
    channel().resetConnectBackoff(); // else the channel itself refuses for up to two minutes
  }

  private ManagedChannel channel() {
    return channels.get(Math.floorMod(current.get(), channels.size()));
  }

  private TaskServiceBlockingStub stub(long leftNs) {
    return brokers.withToken(TaskServiceGrpc.newBlockingStub(channel()))
        .withDeadlineAfter(leftNs, TimeUnit.NANOSECONDS);
  }

  /** The same channel, token and deadline for calls of workflows. */
  private static WorkflowServiceBlockingStub workflows(TaskServiceBlockingStub stub) {
    return WorkflowServiceGrpc.newBlockingStub(stub.getChannel()).withDeadline(stub.getCallOptions().getDeadline());
  }

  private static void join(CompletableFuture<Void> future) {
    try {
      future.join();
    } catch (CompletionException failure) {
      throw HyrexException.of(failure.getCause());
    }
  }

  private static void sleep(long ms) {
    try {
      Thread.sleep(ms);
    } catch (InterruptedException stop) {
      Thread.currentThread().interrupt();
      throw HyrexException.of(Status.CANCELLED.withDescription("interrupted").asException());
    }
  }

  @Override
  public void close() {
    channels.forEach(ManagedChannel::shutdownNow);
  }
}
