package dev.hyrex.agent;

import static dev.hyrex.agent.Wire.GSON;
import static dev.hyrex.agent.Wire.array;
import static dev.hyrex.agent.Wire.object;
import static dev.hyrex.agent.Wire.text;

import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import dev.hyrex.TaskFailure;
import dev.hyrex.Assignment;
import java.time.Duration;
import java.util.List;

/** What the functions of the agent's worker do with their payloads. */
final class Behaviours {
  private Behaviours() {}

  /** What a task that is told to fail throws. */
  private static final class ConformanceError extends TaskFailure {
    ConformanceError(String message) {
      super(message);
    }
  }

  static JsonElement behave(String behaviour, JsonObject payload, Assignment run)
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
}
