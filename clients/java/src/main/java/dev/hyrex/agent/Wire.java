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
import dev.hyrex.v1.NewTask;
import dev.hyrex.v1.OnFull;
import dev.hyrex.v1.SubmitResult;
import dev.hyrex.v1.Task;
import dev.hyrex.v1.TaskRun;
import dev.hyrex.v1.TaskStatus;
import dev.hyrex.v1.Upstream;
import dev.hyrex.v1.WorkflowNode;
import dev.hyrex.v1.WorkflowNodeState;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.Stream;

/** What the agent reads and says, as messages of the wire. */
final class Wire {
  static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

  private Wire() {}

  static NewTask newTask(JsonObject task) {
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

  static JsonObject task(Task task) {
    return object("task_id", task.getTaskId(), "name", task.getName(), "queue", task.getQueue(),
        "priority", task.getPriority(), "max_retries", task.getMaxRetries(), "status", name(task.getStatus()),
        "parent_id", task.getParentId(), "root_id", task.getRootId(), "payload", json(task.getPayload()),
        "content_type", task.getContentType(), "idempotency_key", task.getIdempotencyKey(),
        "headers", task.getHeadersMap(), "labels", task.getLabelsMap(),
        "cancel_requested", task.getCancelRequested(), "waiting_for", task.getWaitingFor(),
        "runs", array(task.getRunsList(), Wire::run));
  }

  static JsonObject run(TaskRun run) {
    JsonElement error = run.hasError()
        ? object("type", run.getError().getType(), "message", run.getError().getMessage(),
            "traceback", run.getError().getTraceback())
        : JsonNull.INSTANCE;
    return object("run_number", run.getRunNumber(), "attempt_number", run.getAttemptNumber(),
        "status", name(run.getStatus()), "result", json(run.getResult()), "error", error,
        "reason", run.getReason(), "worker", run.getWorker());
  }

  static JsonObject error(HyrexException error) {
    return object("code", error.code().name(), "reason", error.reasonName(),
        "message", String.valueOf(error.getMessage()), "metadata", error.metadata());
  }

  static JsonElement json(ByteString bytes) {
    return bytes.isEmpty() ? JsonNull.INSTANCE : GSON.fromJson(bytes.toStringUtf8(), JsonElement.class);
  }

  /** An enum value's name without its enum's prefix: TASK_STATUS_TIMED_OUT of TaskStatus is TIMED_OUT. */
  static String name(ProtocolMessageEnum value) {
    String type = value.getDescriptorForType().getName().replaceAll("(?<=[a-z])(?=[A-Z])", "_");
    return value.getValueDescriptor().getName().substring(type.length() + 1);
  }

  static JsonObject object(Object... pairs) {
    JsonObject object = new JsonObject();
    for (int at = 0; at < pairs.length; at += 2) {
      object.add((String) pairs[at], GSON.toJsonTree(pairs[at + 1]));
    }
    return object;
  }

  static <T> JsonArray array(List<T> items, Function<T, JsonElement> convert) {
    JsonArray array = new JsonArray();
    items.forEach(each -> array.add(convert.apply(each)));
    return array;
  }

  static String text(JsonObject object, String key) {
    return object.has(key) && !object.get(key).isJsonNull() ? object.get(key).getAsString() : "";
  }

  static List<String> strings(JsonObject object, String key) {
    List<String> strings = new ArrayList<>();
    if (object.has(key)) {
      object.getAsJsonArray(key).forEach(each -> strings.add(each.getAsString()));
    }
    return strings;
  }

  static boolean flag(JsonObject object, String key) {
    return object.has(key) && object.get(key).getAsBoolean();
  }

  static Stream<Long> number(JsonObject object, String key) {
    return object.has(key) ? Stream.of(object.get(key).getAsLong()) : Stream.empty();
  }

  static Map<String, String> map(JsonObject object, String key) {
    Map<String, String> map = new TreeMap<>();
    if (object.has(key)) {
      object.getAsJsonObject(key).entrySet().forEach(each -> map.put(each.getKey(), each.getValue().getAsString()));
    }
    return map;
  }

  static JsonObject submitted(SubmitResult each) {
    return object("task_id", each.getTaskId(), "outcome", name(each.getOutcome()),
        "error", each.hasError() ? error(HyrexException.of(each.getError())) : JsonNull.INSTANCE);
  }

  static WorkflowNode node(JsonObject told) {
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

  static JsonObject nodeState(WorkflowNodeState node) {
    return object("task", task(node.getTask()), "name", node.getName(), "approval", node.getApproval(),
        "upstreams", array(node.getUpstreamsList(), each -> object("node", each.getNode(),
            "parameter", each.getParameter(), "runs_anyway", each.getRunsAnyway())));
  }
}
