package dev.hyrex;

import com.google.gson.JsonParseException;
import com.google.protobuf.ByteString;
import java.lang.reflect.Type;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/** A worker: what it serves and which functions it has; then one session that executes them. */
public final class Worker implements AutoCloseable {
  /** A task's function. It is stopped (cancel, timeout, lost lease) by interrupting its thread. */
  @FunctionalInterface
  public interface TaskFunction<A, R> {
    /** Executes a run; {@code run} is its assignment, with ids, attempt and headers. */
    R call(A arguments, Assignment run) throws Exception;
  }

  /** A function with its arguments and result as bytes. */
  interface Code {
    ByteString call(Assignment run) throws Exception;
  }

  final Brokers brokers;
  final String name;
  final int capacity;
  final Map<String, Code> functions = new HashMap<>();
  List<String> queues = List.of("*");
  private Session session;

  /** A worker for "grpc://host:port" (several with commas) that runs up to {@code capacity} tasks at once. */
  public Worker(String addresses, String token, String name, int capacity) {
    this.brokers = new Brokers(addresses, token);
    this.name = name;
    this.capacity = capacity;
  }

  /** The queues to serve, names or patterns, instead of all. */
  public Worker queues(List<String> patterns) {
    queues = List.copyOf(patterns);
    return this;
  }

  /** Registers a function whose arguments are this type's JSON. */
  public <A, R> Worker task(String taskName, Type arguments, TaskFunction<A, R> function) {
    functions.put(taskName, run -> {
      A decoded;
      try {
        decoded = Json.decode(run.payload(), run.node().getResultsList(), arguments);
      } catch (JsonParseException unreadable) {
        throw new TaskFailure("the payload cannot be read: " + unreadable.getMessage()).last();
      }
      R result = function.call(decoded, run);
      try {
        return ByteString.copyFromUtf8(Json.STRICT.toJson(result));
      } catch (RuntimeException unwritable) {
        throw new TaskFailure("the result is not JSON: " + unwritable.getMessage()).last();
      }
    });
    return this;
  }

  /** Connects; returns after the first Welcome. Throws what the broker refuses for good. */
  public Worker start() {
    session = new Session(this);
    settled(session.welcomed);
    return this;
  }

  /** The session's id now. */
  public String sessionId() {
    return session.id();
  }

  /** Whether it has not left yet. */
  public boolean isRunning() {
    return !session.ended.isDone();
  }

  /** Takes no new work, finishes and reports what runs, says Goodbye; returns when the session has ended. */
  public void drain() {
    session.drain("asked to");
    join();
  }

  /** Waits until it has left, as when an operator asked it to. */
  public void join() {
    settled(session.ended);
  }

  /** Stops at once, as a crash would: runs are interrupted, nothing is reported. */
  @Override
  public void close() {
    session.end(null);
  }

  private static void settled(CompletableFuture<?> future) {
    try {
      future.join();
    } catch (CompletionException failure) {
      throw HyrexException.of(failure.getCause());
    }
  }
}
