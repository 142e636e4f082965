package dev.hyrex.agent;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import com.google.protobuf.ProtocolMessageEnum;
import com.google.protobuf.util.Durations;
import dev.hyrex.HyrexClient;
import dev.hyrex.HyrexException;
import dev.hyrex.TaskFailure;
import dev.hyrex.Worker;
import dev.hyrex.Assignment;
import dev.hyrex.v1.CompleteTasksRequest;
import dev.hyrex.v1.ListTasksRequest;
import dev.hyrex.v1.NewTask;
import dev.hyrex.v1.OnFull;
import dev.hyrex.v1.OutsideResult;
import dev.hyrex.v1.ReplayTaskRequest;
import dev.hyrex.v1.RunError;
import dev.hyrex.v1.SubmitResult;
import dev.hyrex.v1.SubmitWorkflowRequest;
import dev.hyrex.v1.Task;
import dev.hyrex.v1.TaskRun;
import dev.hyrex.v1.TaskStatus;
import dev.hyrex.v1.Upstream;
import dev.hyrex.v1.WorkflowNode;
import dev.hyrex.v1.WorkflowNodeState;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.Stream;

/** The conformance agent: obeys commands on stdin with the client library, see tests/conformance/AGENT.md. */
public final class Agent {
  private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  private static final PrintStream OUT =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

  private static final JsonObject UNKNOWN = object(
      "code", "UNIMPLEMENTED", "reason", "UNKNOWN_OP", "message", "no such operation", "metadata", Map.of());

  private final String brokers = System.getenv("HYREX_BROKER_URL");
  private final String token = System.getenv().getOrDefault("HYREX_TOKEN", "");
  private final HyrexClient client = new HyrexClient(brokers, token);
  private final List<String> executed = Collections.synchronizedList(new ArrayList<>());
  private Worker worker;

  /** What a task that is told to fail throws. */
  private static final class ConformanceError extends TaskFailure {
    ConformanceError(String message) {
      super(message);
    }
  }

  /** Obeys until stdin ends. */
  public static void main(String[] arguments) throws IOException {
    Agent agent = new Agent();
    OUT.println("{\"ready\": true, \"language\": \"java\", \"client\": \"hyrex-java/0.1.0\"}");
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonObject command = GSON.fromJson(line, JsonObject.class);
      JsonObject answer = new JsonObject();
      answer.add("id", command.get("id"));
      try {
        JsonElement done = agent.obey(command);
        answer.add(done == null ? "error" : "ok", done == null ? UNKNOWN : done);
      } catch (HyrexException refused) {
        answer.add("error", error(refused));
      }
      OUT.println(GSON.toJson(answer));
    }
    Runtime.getRuntime().halt(0);
  }

  /** Obeys one command; null where it is not known. */
  private JsonElement obey(JsonObject command) {
    switch (text(command, "op")) {
      case "submit":
        return submit(command);
      case "get":
        return object("task", task(client.get(text(command, "task_id"))));
      case "list":
        return list(command);
      case "wait":
        long patience = command.has("timeout_ms") ? command.get("timeout_ms").getAsLong() : 10_000;
        List<Task> tasks = client.await(strings(command, "task_ids"), Duration.ofMillis(patience));
        return object("done", tasks.stream().allMatch(HyrexClient::isFinal), "tasks", array(tasks, Agent::task));
      case "cancel":
        return object("results", array(client.cancel(strings(command, "task_ids"), text(command, "reason")),
            each -> object("task_id", each.getTaskId(), "outcome", name(each.getOutcome()))));
      case "retry":
        return object("results", array(client.retry(strings(command, "task_ids")),
            each -> object("task_id", each.getTaskId(), "outcome", name(each.getOutcome()))));
      case "dismiss":
        return object("results", array(client.dismiss(strings(command, "task_ids")),
            each -> object("task_id", each.getTaskId(), "outcome", name(each.getOutcome()))));
      case "complete":
        return complete(command);
      case "submit_workflow":
        return submitWorkflow(command);
      case "get_workflow":
        var found = client.getWorkflow(text(command, "task_id"));
        return object("root", task(found.getRoot()), "nodes", array(found.getNodesList(), Agent::nodeState),
            "fail_fast", found.getFailFast());
      case "replay":
        return replay(command);
      case "worker_start":
        return start(command);
      case "worker_stats":
        return object("executed", List.copyOf(executed), "running", worker != null && worker.isRunning());
      case "worker_drain":
        worker.drain();
        return new JsonObject();
      case "worker_stop":
        worker.close();
        return new JsonObject();
      default:
        return null;
    }
  }

  private JsonElement submit(JsonObject command) {
    List<NewTask> tasks = new ArrayList<>();
    command.getAsJsonArray("tasks").forEach(each -> tasks.add(newTask(each.getAsJsonObject())));
    boolean stream = command.has("stream") && command.get("stream").getAsBoolean();
    List<SubmitResult> results = stream ? client.submitStream(tasks) : client.submit(tasks);
    return object("results", array(results, Agent::submitted));
  }

  private static JsonObject submitted(SubmitResult each) {
    return object("task_id", each.getTaskId(), "outcome", name(each.getOutcome()),
        "error", each.hasError() ? error(HyrexException.of(each.getError())) : JsonNull.INSTANCE);
  }

  private JsonElement complete(JsonObject command) {
    var request = CompleteTasksRequest.newBuilder()
        .addAllTaskIds(strings(command, "task_ids")).setReason(text(command, "reason"));
    if (command.has("error")) {
      JsonObject error = command.getAsJsonObject("error");
      request.setError(RunError.newBuilder().setType(text(error, "type")).setMessage(text(error, "message")));
    } else {
      ByteString result = ByteString.copyFromUtf8(GSON.toJson(command.get("result")));
      request.setResult(OutsideResult.newBuilder().setResult(result));
    }
    return object("results", array(client.complete(request.build()),
        each -> object("task_id", each.getTaskId(), "outcome", name(each.getOutcome()))));
  }

  private JsonElement submitWorkflow(JsonObject command) {
    var request = SubmitWorkflowRequest.newBuilder()
        .setRoot(newTask(command.getAsJsonObject("root"))).setFailFast(flag(command, "fail_fast"));
    command.getAsJsonArray("nodes").forEach(each -> request.addNodes(node(each.getAsJsonObject())));
    return object("result", submitted(client.submitWorkflow(request.build())));
  }

  private static WorkflowNode node(JsonObject told) {
    var node = WorkflowNode.newBuilder().setName(text(told, "name"))
        .setTask(newTask(told.getAsJsonObject("task"))).setApproval(flag(told, "approval"));
    if (told.has("upstreams")) {
      told.getAsJsonArray("upstreams").forEach(each -> {
        JsonObject upstream = each.getAsJsonObject();
        node.addUpstreams(Upstream.newBuilder().setNode(upstream.get("node").getAsInt())
            .setParameter(text(upstream, "parameter")).setRunsAnyway(flag(upstream, "runs_anyway")));
      });
    }
    return node.build();
  }

  private static JsonObject nodeState(WorkflowNodeState node) {
    return object("task", task(node.getTask()), "name", node.getName(), "approval", node.getApproval(),
        "upstreams", array(node.getUpstreamsList(), each -> object("node", each.getNode(),
            "parameter", each.getParameter(), "runs_anyway", each.getRunsAnyway())));
  }

  private JsonElement replay(JsonObject command) {
    String id = command.has("new_task_id") ? text(command, "new_task_id") : HyrexClient.newTaskId();
    var request = ReplayTaskRequest.newBuilder().setTaskId(text(command, "task_id")).setNewTaskId(id);
    if (command.has("payload")) {
      request.setPayload(ByteString.copyFromUtf8(GSON.toJson(command.get("payload"))));
    }
    return object("result", submitted(client.replay(request.build())));
  }

  private JsonElement list(JsonObject command) {
    var request = ListTasksRequest.newBuilder()
        .setQueue(text(command, "queue")).setName(text(command, "name"))
        .setPageToken(text(command, "page_token"));
    if (command.has("page_size")) {
      request.setPageSize(command.get("page_size").getAsInt());
    }
    strings(command, "statuses").forEach(each -> request.addStatuses(TaskStatus.valueOf("TASK_STATUS_" + each)));
    var page = client.list(request.build());
    return object("tasks", array(page.getTasksList(), Agent::task), "next_page_token", page.getNextPageToken());
  }

  private JsonElement start(JsonObject command) {
    worker = new Worker(brokers, token, text(command, "name"), command.get("capacity").getAsInt())
        .queues(strings(command, "queues"));
    command.getAsJsonObject("tasks").entrySet().forEach(each -> {
      String behaviour = each.getValue().getAsString();
      worker.task(each.getKey(), JsonElement.class, (JsonElement payload, Assignment run) -> {
        executed.add(run.taskId());
        return behave(behaviour, payload.isJsonObject() ? payload.getAsJsonObject() : new JsonObject(), run);
      });
    });
    return object("session_id", worker.start().sessionId());
  }

  private static JsonElement behave(String behaviour, JsonObject payload, Assignment run)
      throws InterruptedException {
    switch (behaviour) {
      case "echo":
        return payload.has("value") ? payload.get("value") : JsonNull.INSTANCE;
      case "pair":
        return array(List.of("a", "b"), payload::get);
      case "fail":
        throw failure(text(payload, "message"), payload, "retry_delay_ms");
      case "fail_final":
        throw failure(text(payload, "message"), payload, "retry_delay_ms").last();
      case "retry_after":
        if (run.attemptNumber() == 0) {
          throw failure("not yet", payload, "delay_ms");
        }
        return object("attempt_number", run.attemptNumber());
      case "sleep":
        Thread.sleep(payload.get("ms").getAsLong());
        return object("slept", payload.get("ms"));
      case "attempt":
        return object("task_id", run.taskId(), "run_number", run.runNumber(),
            "attempt_number", run.attemptNumber());
      case "headers":
        return GSON.toJsonTree(run.headers());
      default:
        throw new TaskFailure("no behaviour " + behaviour).last();
    }
  }

  private static TaskFailure failure(String message, JsonObject payload, String delay) {
    TaskFailure failure = new ConformanceError(message);
    return payload.has(delay) ? failure.retryAfter(Duration.ofMillis(payload.get(delay).getAsLong())) : failure;
  }

  private static NewTask newTask(JsonObject task) {
    String id = task.has("task_id") ? text(task, "task_id") : HyrexClient.newTaskId();
    var made = NewTask.newBuilder().setTaskId(id).setName(text(task, "name"))
        .setQueue(task.has("queue") ? text(task, "queue") : "default").setContentType(text(task, "content_type"))
        .setIdempotencyKey(text(task, "idempotency_key")).setParentId(text(task, "parent_id"))
        .setRootId(text(task, "root_id")).putAllHeaders(map(task, "headers")).putAllLabels(map(task, "labels"))
        .setDebounceKey(text(task, "debounce_key")).setConcurrencyKey(text(task, "concurrency_key"))
        .setFairKey(text(task, "fair_key")).setOutside(flag(task, "outside"));
    if (task.has("refuses")) {
      made.setOnFull(OnFull.ON_FULL_REFUSE);
    }
    number(task, "max_per_key").forEach(value -> made.setMaxPerKey(value.intValue()));
    number(task, "expires_in_ms").forEach(value -> made.setExpiresIn(Durations.fromMillis(value)));
    number(task, "debounce_max_wait_ms").forEach(value -> made.setDebounceMaxWait(Durations.fromMillis(value)));
    if (task.has("payload_base64")) {
      made.setPayload(ByteString.copyFrom(Base64.getDecoder().decode(text(task, "payload_base64"))));
    } else {
      JsonElement payload = task.has("payload") ? task.get("payload") : new JsonObject();
      made.setPayload(ByteString.copyFromUtf8(GSON.toJson(payload)));
    }
    number(task, "priority").forEach(value -> made.setPriority(value.intValue()));
    number(task, "max_retries").forEach(value -> made.setMaxRetries(value.intValue()));
    number(task, "timeout_ms").forEach(value -> made.setTimeout(Durations.fromMillis(value)));
    number(task, "delay_ms").forEach(value -> made.setDelay(Durations.fromMillis(value)));
    number(task, "retry_delay_ms").forEach(value -> made.setRetryDelay(Durations.fromMillis(value)));
    return made.build();
  }

  private static JsonObject task(Task task) {
    return object("task_id", task.getTaskId(), "name", task.getName(), "queue", task.getQueue(),
        "priority", task.getPriority(), "max_retries", task.getMaxRetries(), "status", name(task.getStatus()),
        "parent_id", task.getParentId(), "root_id", task.getRootId(), "payload", json(task.getPayload()),
        "content_type", task.getContentType(), "idempotency_key", task.getIdempotencyKey(),
        "headers", task.getHeadersMap(), "labels", task.getLabelsMap(),
        "cancel_requested", task.getCancelRequested(), "waiting_for", task.getWaitingFor(),
        "runs", array(task.getRunsList(), Agent::run));
  }

  private static JsonObject run(TaskRun run) {
    JsonElement error = run.hasError()
        ? object("type", run.getError().getType(), "message", run.getError().getMessage(),
            "traceback", run.getError().getTraceback())
        : JsonNull.INSTANCE;
    return object("run_number", run.getRunNumber(), "attempt_number", run.getAttemptNumber(),
        "status", name(run.getStatus()), "result", json(run.getResult()), "error", error,
        "reason", run.getReason(), "worker", run.getWorker());
  }

  private static JsonObject error(HyrexException error) {
    return object("code", error.code().name(), "reason", error.reasonName(),
        "message", String.valueOf(error.getMessage()), "metadata", error.metadata());
  }

  private static JsonElement json(ByteString bytes) {
    return bytes.isEmpty() ? JsonNull.INSTANCE : GSON.fromJson(bytes.toStringUtf8(), JsonElement.class);
  }

  /** An enum value's name without its enum's prefix: TASK_STATUS_TIMED_OUT of TaskStatus is TIMED_OUT. */
  private static String name(ProtocolMessageEnum value) {
    String type = value.getDescriptorForType().getName().replaceAll("(?<=[a-z])(?=[A-Z])", "_");
    return value.getValueDescriptor().getName().substring(type.length() + 1);
  }

  private static JsonObject object(Object... pairs) {
    JsonObject object = new JsonObject();
    for (int at = 0; at < pairs.length; at += 2) {
      object.add((String) pairs[at], GSON.toJsonTree(pairs[at + 1]));
    }
    return object;
  }

  private static <T> JsonArray array(List<T> items, Function<T, JsonElement> convert) {
    JsonArray array = new JsonArray();
    items.forEach(each -> array.add(convert.apply(each)));
    return array;
  }

  private static String text(JsonObject object, String key) {
    return object.has(key) && !object.get(key).isJsonNull() ? object.get(key).getAsString() : "";
  }

  private static List<String> strings(JsonObject object, String key) {
    List<String> strings = new ArrayList<>();
    if (object.has(key)) {
      object.getAsJsonArray(key).forEach(each -> strings.add(each.getAsString()));
    }
    return strings;
  }

  private static boolean flag(JsonObject object, String key) {
    return object.has(key) && object.get(key).getAsBoolean();
  }

  private static Stream<Long> number(JsonObject object, String key) {
    return object.has(key) ? Stream.of(object.get(key).getAsLong()) : Stream.empty();
  }

  private static Map<String, String> map(JsonObject object, String key) {
    Map<String, String> map = new TreeMap<>();
    if (object.has(key)) {
      object.getAsJsonObject(key).entrySet().forEach(each -> map.put(each.getKey(), each.getValue().getAsString()));
    }
    return map;
  }
}
