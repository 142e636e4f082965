package dev.hyrex;

import dev.hyrex.v1.Hello;
import dev.hyrex.v1.WorkRequest;
import dev.hyrex.v1.WorkResponse;
import dev.hyrex.v1.WorkerServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.stub.StreamObserver;
import java.util.TreeMap;

/** One stream to one broker. What it says reaches the session by its loop; once it was left, it is ignored. */
final class Link implements StreamObserver<WorkResponse> {
  /** Sent and not acknowledged: sequence and moment of sending. */
  final TreeMap<Long, Long> beats = new TreeMap<>();
  final long sent = System.nanoTime();
  long heardAt;
  /** Welcomed. */
  boolean open;
  /** Goodbye was said. */
  boolean parted;

  private final Session session;
  private final ManagedChannel channel;
  private StreamObserver<WorkRequest> out;

  Link(Session session, ManagedChannel channel) {
    this.session = session;
    this.channel = channel;
  }

  void greet(Brokers brokers, Hello hello) {
    out = brokers.withToken(WorkerServiceGrpc.newStub(channel)).work(this);
    say(WorkRequest.newBuilder().setHello(hello));
  }

  void say(WorkRequest.Builder frame) {
    out.onNext(frame.build());
  }

  void leave() {
    channel.shutdownNow();
  }

  @Override
  public void onNext(WorkResponse frame) {
    session.from(this, () -> session.hear(frame));
  }

  @Override
  public void onError(Throwable failure) {
    session.from(this, () -> session.survive(HyrexException.of(failure)));
  }

  @Override
  public void onCompleted() {
    session.from(this, session::streamEnded);
  }
}
