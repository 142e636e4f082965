package dev.hyrex;

import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.util.Durations;
import dev.hyrex.v1.Failed;
import dev.hyrex.v1.RunError;
import dev.hyrex.v1.RunReport;
import dev.hyrex.v1.TimedOut;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/**
 * The runs of a session: they wait for a slot, execute on threads of their own, and are stopped from
 * outside. Belongs to the session's loop, but for {@link #execute}.
 */
final class Runs {
  /** One lease with its run. */
  static final class Lease {
    final Assignment run;
    /** Set while the function runs. */
    Thread thread;
    /** How it is to be reported once it obeys. */
    RunReport.Builder stopped;

    Lease(Assignment run) {
      this.run = run;
    }
  }

  private final Worker worker;
  private final Session session;
  private final ArrayDeque<Lease> waiting = new ArrayDeque<>();
  private final List<Lease> running = new ArrayList<>();

  Runs(Worker worker, Session session) {
    this.worker = worker;
    this.session = session;
  }

  Lease add(Assignment run) {
    Lease lease = new Lease(run);
    waiting.add(lease);
    return lease;
  }

  /** Begins what waits and has a slot; a run that must be alone waits for all slots and holds them. */
  void begin() {
    while (!waiting.isEmpty() && running.size() < worker.capacity) {
      boolean occupied = running.stream().anyMatch(lease -> lease.run.alone());
      if (occupied || waiting.peek().run.alone() && !running.isEmpty()) {
        return;
      }
      Lease lease = waiting.poll();
      running.add(lease);
      lease.thread = daemon(() -> execute(lease), "hyrex-run");
      lease.thread.start();
      if (lease.run.timeout() != null) {
        var timedOut = RunReport.newBuilder().setTimedOut(TimedOut.getDefaultInstance());
        session.in(lease.run.timeout().toNanos(), () -> stop(lease, timedOut));
      }
    }
  }

  /** Asks a run to end so; it is reported when it has. One that has not begun ends at once. */
  void stop(Lease lease, RunReport.Builder outcome) {
    if (lease == null || lease.stopped != null) {
      return;
    }
    lease.stopped = outcome;
    if (waiting.remove(lease)) {
      session.ended(lease, outcome, null);
    } else if (lease.thread != null) {
      lease.thread.interrupt();
    }
  }

  /** Stops all, whatever they make of it. */
  void interrupt() {
    running.forEach(lease -> lease.thread.interrupt());
  }

  private void execute(Lease lease) {
    var report = RunReport.newBuilder();
    ByteString returned = null;
    long began = System.nanoTime();
    try {
      Worker.Code function = worker.functions.get(lease.run.name());
      if (function == null) {
        throw new TaskFailure("no function " + lease.run.name() + " is registered").last();
      }
      returned = function.call(lease.run);
    } catch (Throwable error) {
      report.setFailed(failed(error));
    }
    ByteString result = returned;
    Duration elapsed = Durations.fromNanos(System.nanoTime() - began);
    session.on(() -> {
      running.remove(lease);
      lease.thread = null;
      boolean obeyed = lease.stopped != null && report.hasFailed();
      session.ended(lease, (obeyed ? lease.stopped : report).setElapsed(elapsed), result);
    });
  }

  private static Failed failed(Throwable error) {
    var failed = Failed.newBuilder().setRetryable(true).setError(RunError.newBuilder()
        .setType(error.getClass().getName()).setMessage(String.valueOf(error.getMessage()))
        .setTraceback(trace(error)));
    if (error instanceof TaskFailure said) {
      failed.setRetryable(said.isRetryable());
      if (said.retryDelay() != null) {
        failed.setRetryDelay(Durations.fromNanos(said.retryDelay().toNanos()));
      }
    }
    return failed.build();
  }

  static String trace(Throwable error) {
    var text = new StringWriter();
    error.printStackTrace(new PrintWriter(text));
    return text.toString();
  }

  static Thread daemon(Runnable code, String name) {
    Thread thread = new Thread(code, name);
    thread.setDaemon(true);
    return thread;
  }
}
