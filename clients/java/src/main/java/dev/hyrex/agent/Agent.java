package dev.hyrex.agent;

import static dev.hyrex.agent.Wire.GSON;
import static dev.hyrex.agent.Wire.array;
import static dev.hyrex.agent.Wire.error;
import static dev.hyrex.agent.Wire.flag;
import static dev.hyrex.agent.Wire.name;
import static dev.hyrex.agent.Wire.newTask;
import static dev.hyrex.agent.Wire.node;
import static dev.hyrex.agent.Wire.object;
import static dev.hyrex.agent.Wire.strings;
import static dev.hyrex.agent.Wire.submitted;
import static dev.hyrex.agent.Wire.task;
import static dev.hyrex.agent.Wire.text;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import dev.hyrex.HyrexClient;
import dev.hyrex.HyrexException;
import dev.hyrex.Worker;
import dev.hyrex.Assignment;
import dev.hyrex.v1.CompleteTasksRequest;
import dev.hyrex.v1.ListTasksRequest;
import dev.hyrex.v1.NewTask;
import dev.hyrex.v1.OutsideResult;
import dev.hyrex.v1.ReplayTaskRequest;
import dev.hyrex.v1.RunError;
import dev.hyrex.v1.SubmitResult;
import dev.hyrex.v1.SubmitWorkflowRequest;
import dev.hyrex.v1.Task;
import dev.hyrex.v1.TaskStatus;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** The conformance agent: obeys commands on stdin with the client library, see tests/conformance/AGENT.md. */
public final class Agent {
  private static final PrintStream OUT =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

  private static final JsonObject UNKNOWN = object(
      "code", "UNIMPLEMENTED", "reason", "UNKNOWN_OP", "message", "no such operation", "metadata", Map.of());

  private final String brokers = System.getenv("HYREX_BROKER_URL");
  private final String token = System.getenv().getOrDefault("HYREX_TOKEN", "");
  private final HyrexClient client = new HyrexClient(brokers, token);
  private final List<String> executed = Collections.synchronizedList(new ArrayList<>());
  private Worker worker;

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
        return object("done", tasks.stream().allMatch(HyrexClient::isFinal), "tasks", array(tasks, Wire::task));
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
        return object("root", task(found.getRoot()), "nodes", array(found.getNodesList(), Wire::nodeState),
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
    return object("results", array(results, Wire::submitted));
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
    return object("tasks", array(page.getTasksList(), Wire::task), "next_page_token", page.getNextPageToken());
  }

  private JsonElement start(JsonObject command) {
    worker = new Worker(brokers, token, text(command, "name"), command.get("capacity").getAsInt())
        .queues(strings(command, "queues"));
    command.getAsJsonObject("tasks").entrySet().forEach(each -> {
      String behaviour = each.getValue().getAsString();
      worker.task(each.getKey(), JsonElement.class, (JsonElement payload, Assignment run) -> {
        executed.add(run.taskId());
        return Behaviours.behave(behaviour, payload.isJsonObject() ? payload.getAsJsonObject() : new JsonObject(), run);
      });
    });
    return object("session_id", worker.start().sessionId());
  }
}
