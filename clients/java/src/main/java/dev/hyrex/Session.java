package dev.hyrex;

import com.google.protobuf.ByteString;
import com.google.protobuf.util.Durations;
import dev.hyrex.Runs.Lease;
import dev.hyrex.v1.BrokerDrain;
import dev.hyrex.v1.Cancelled;
import dev.hyrex.v1.Goodbye;
import dev.hyrex.v1.Heartbeat;
import dev.hyrex.v1.HeartbeatAck;
import dev.hyrex.v1.Hello;
import dev.hyrex.v1.LeaseRef;
import dev.hyrex.v1.PoolCapacity;
import dev.hyrex.v1.Released;
import dev.hyrex.v1.RunReport;
import dev.hyrex.v1.TaskDefinition;
import dev.hyrex.v1.Welcome;
import dev.hyrex.v1.WorkRequest;
import dev.hyrex.v1.WorkResponse;
import dev.hyrex.v1.WorkerDrain;
import io.grpc.Status;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * One session over any number of streams: what is held, what is reported, until when it may be trusted.
 * All of its state belongs to one thread, the loop; runs have threads of their own.
 */
final class Session {
  private static final long LONGEST_PAUSE_MS = 5000;
  private static final long FIRST_PATIENCE_NS = TimeUnit.SECONDS.toNanos(10);

  final CompletableFuture<Void> welcomed = new CompletableFuture<>();
  final CompletableFuture<Void> ended = new CompletableFuture<>();

  private final Worker worker;
  private final Runs runs;
  private final ScheduledThreadPoolExecutor loop;
  private volatile Welcome welcome = Welcome.getDefaultInstance();
  private Link link;
  private int attempts;
  private int failures;
  private long receivedThrough;
  /** Received and neither acknowledged as reported nor revoked, by token. */
  private final Map<Long, Lease> held = new HashMap<>();
  private final Reports reports = new Reports();
  private long lastBeat;
  private long trustedUntil;
  private boolean trusted;
  private boolean draining;

  Session(Worker worker) {
    this.worker = worker;
    runs = new Runs(worker, this);
    loop = new ScheduledThreadPoolExecutor(1, code -> Runs.daemon(code, "hyrex-session"));
    loop.setRejectedExecutionHandler(new ThreadPoolExecutor.DiscardPolicy());
    connectIn(0);
  }

  String id() {
    return welcome.getSessionId();
  }

  void drain(String reason) {
    on(() -> {
      if (!draining) {
        draining = true;
        say(WorkRequest.newBuilder().setDrain(WorkerDrain.newBuilder().setReason(reason)));
      }
    });
  }

  /** Ends everything at once; {@code failure} is null if nothing went wrong. */
  void end(HyrexException failure) {
    loop.execute(() -> {
      runs.interrupt();
      leave();
      loop.shutdownNow();
      if (failure == null) {
        ended.complete(null);
      } else {
        welcomed.completeExceptionally(failure);
        ended.completeExceptionally(failure);
      }
    });
  }

  /** Does a step on the loop, then says what follows from it. */
  void on(Runnable step) {
    loop.execute(guarded(step));
  }

  /** The same, later. */
  void in(long delayNs, Runnable step) {
    loop.schedule(guarded(step), delayNs, TimeUnit.NANOSECONDS);
  }

  private Runnable guarded(Runnable step) {
    return () -> {
      try {
        step.run();
        if (trusted) {
          runs.begin();
        }
        tell();
      } catch (RuntimeException defect) {
        end(HyrexException.of(Status.INTERNAL.withDescription(Runs.trace(defect)).asException()));
      }
    };
  }

  /** Does what a stream says, unless it was left. */
  void from(Link said, Runnable step) {
    on(() -> {
      if (link == said) {
        step.run();
      }
    });
  }

  /** The stream has ended with OK. */
  void streamEnded() {
    if (link.parted) {
      end(null);
    } else {
      reconnect();
    }
  }

  private void connectIn(long pauseMs) {
    in(pauseMs * 1_000_000, () -> {
      Link opening = link = new Link(this, worker.brokers.channel(attempts++));
      opening.greet(worker.brokers, hello());
      in(id().isEmpty() ? FIRST_PATIENCE_NS : leaseNs() / 3, () -> {
        if (link == opening && !opening.open) {
          reconnect();
        }
      });
    });
  }

  private Hello hello() {
    var hello = Hello.newBuilder().setWorkerName(worker.name).setPid((int) ProcessHandle.current().pid())
        .setSessionId(id()).setSessionSecret(welcome.getSessionSecret()).setSdk("hyrex-java/0.1.0")
        .setProtocolVersion(1).addAllQueuePatterns(worker.queues).setReceivedThrough(receivedThrough)
        .addCapacity(PoolCapacity.newBuilder().setMaximum(draining ? 0 : worker.capacity));
    worker.functions.keySet().forEach(name -> hello.addTasks(TaskDefinition.newBuilder().setName(name)));
    held.values().forEach(lease -> hello.addHeld(
        LeaseRef.newBuilder().setTaskId(lease.run.taskId()).setToken(lease.run.token())));
    return hello.build();
  }

  private void leave() {
    if (link != null) {
      link.leave();
      link = null;
    }
  }

  /** Leaves the stream for another: at once the first time, then ever more slowly. */
  private void reconnect() {
    leave();
    long first = ThreadLocalRandom.current().nextLong(50);
    long later = Brokers.jittered(Math.min(LONGEST_PAUSE_MS, 50L << Math.min(failures, 10)));
    connectIn(failures++ == 0 ? first : later);
  }

  void survive(HyrexException error) {
    if (error.isFatal()) {
      end(error);
      leave();
      return;
    }
    if (error.isEndOfSession()) {
      forget();
    }
    reconnect();
  }

  /** The session is over, and so is every lease of it. */
  private void forget() {
    welcome = welcome.toBuilder().clearSessionId().clearSessionSecret().build();
    receivedThrough = 0;
    List.copyOf(held.keySet()).forEach(this::revoke);
  }

  void hear(WorkResponse frame) {
    link.heardAt = System.nanoTime();
    switch (frame.getFrameCase()) {
      case WELCOME -> welcome(frame.getWelcome());
      case ASSIGNMENTS -> {
        receivedThrough = Math.max(receivedThrough, frame.getAssignments().getSequence());
        frame.getAssignments().getGroupsList().forEach(group -> Assignment.of(group).forEach(run -> {
          held.put(run.token(), runs.add(run));
        }));
      }
      case REPORT_ACK -> reports.settle(frame.getReportAck().getReportId()).forEach(held::remove);
      case HEARTBEAT_ACK -> heartbeatAck(frame.getHeartbeatAck());
      case CANCEL -> frame.getCancel().getRunsList().forEach(run -> cancel(run.getToken(), run.getReason()));
      case DRAIN -> moveOn(frame.getDrain());
      case LEAVE -> drain(frame.getLeave().getReason());
      default -> { } // a frame of a later version
    }
  }

  private void welcome(Welcome said) {
    if (!said.getSessionId().equals(id())) {
      forget();
    }
    said.getRevokedList().forEach(lease -> revoke(lease.getToken()));
    welcome = said;
    link.open = true;
    trust(link.sent);
    if (draining) {
      say(WorkRequest.newBuilder().setDrain(WorkerDrain.getDefaultInstance()));
    }
    beat(link);
    watch(link);
    reports.unacknowledged().forEach(report -> say(WorkRequest.newBuilder().setReport(report)));
    welcomed.complete(null);
  }

  private void heartbeatAck(HeartbeatAck ack) {
    var acknowledged = link.beats.headMap(ack.getSequence(), true);
    acknowledged.values().forEach(this::trust);
    acknowledged.clear();
    failures = 0;
    ack.getRevokedList().forEach(lease -> revoke(lease.getToken()));
    ack.getCancelsList().forEach(run -> cancel(run.getToken(), run.getReason()));
  }

  /** Leaves a broker that says nothing for two and a half intervals. */
  private void watch(Link of) {
    if (link != of) {
      return;
    }
    long quiet = Durations.toNanos(welcome.getHeartbeatInterval()) * 5 / 2;
    long left = of.heardAt + quiet - System.nanoTime();
    if (left > 0) {
      in(left, () -> watch(of));
    } else {
      reconnect();
    }
  }

  /** Proof of life every interval. */
  private void beat(Link of) {
    if (link != of) {
      return;
    }
    long interval = Durations.toNanos(welcome.getHeartbeatInterval());
    of.beats.put(++lastBeat, System.nanoTime());
    say(WorkRequest.newBuilder().setHeartbeat(Heartbeat.newBuilder().setSequence(lastBeat)
        .addAllHeldTokens(held.keySet()).setReceivedThrough(receivedThrough)));
    in(interval, () -> beat(of));
  }

  private void moveOn(BrokerDrain drain) {
    long jitter = Math.min(Durations.toNanos(drain.getReconnectJitter()), Durations.toNanos(drain.getDeadline()) / 2);
    Link leaving = link;
    in(ThreadLocalRandom.current().nextLong(jitter + 1), () -> {
      if (link == leaving) {
        reconnect();
      }
    });
  }

  /** What was sent at that moment is acknowledged: leases hold from then on, less a margin. */
  private void trust(long sent) {
    trustedUntil = sent + leaseNs() / 10 * 9;
    if (!trusted && trustedUntil > System.nanoTime()) {
      trusted = true;
      watchTrust();
    }
  }

  private void watchTrust() {
    long left = trustedUntil - System.nanoTime();
    if (left > 0) {
      in(left, this::watchTrust);
      return;
    }
    trusted = false; // nobody has acknowledged us for too long: others may hold these leases now
    List.copyOf(held.values()).forEach(lease -> runs.stop(lease, RunReport.newBuilder().setReleased(
        Released.newBuilder().setStarted(lease.thread != null).setReason("its lease could not be renewed"))));
  }

  private long leaseNs() {
    return Durations.toNanos(welcome.getLeaseDuration());
  }

  /** The lease is void: its run is stopped. Only one that had ended by itself is still reported. */
  private void revoke(long token) {
    runs.stop(held.remove(token), RunReport.newBuilder());
    reports.revoke(token);
  }

  private void cancel(long token, String reason) {
    Cancelled cancelled = Cancelled.newBuilder().setReason(reason).build();
    runs.stop(held.get(token), RunReport.newBuilder().setCancelled(cancelled));
  }

  /** A run has ended so. If its lease is void by now, nobody wants to know. */
  void ended(Lease lease, RunReport.Builder outcome, ByteString result) {
    if (held.get(lease.run.token()) == lease) {
      RunReport report = outcome.setTaskId(lease.run.taskId()).setToken(lease.run.token()).build();
      reports.add(new Ending(report, result));
    }
  }

  /** Reports what has ended; parts when a drain has nothing left to wait for. */
  private void tell() {
    if (link == null || !link.open || link.parted) {
      return;
    }
    while (reports.isDue()) {
      say(WorkRequest.newBuilder().setReport(reports.next(welcome.getMaxFrameBytes())));
    }
    if (draining && held.isEmpty() && reports.unacknowledged().isEmpty()) {
      link.parted = true;
      say(WorkRequest.newBuilder().setGoodbye(Goodbye.getDefaultInstance()));
    }
  }

  /** Sends a frame; never waits. What is unsent is bounded by the leases held. */
  private void say(WorkRequest.Builder frame) {
    if (link != null && link.open) {
      link.say(frame);
    }
  }
}
