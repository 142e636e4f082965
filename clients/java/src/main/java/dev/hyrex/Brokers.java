package dev.hyrex;

import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/** The brokers of one cluster: any of them serves any call. */
final class Brokers {
  private static final int MESSAGE_BYTES = 16 << 20;
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private static final Pattern LOOPBACK =
      Pattern.compile("(localhost|127(\\.\\d+){3}|\\[::1])(:\\d+)?/?");

  private final List<String> addresses;
  private final Metadata headers = new Metadata();

  /** From "grpc://host:port,grpc://host:port"; an empty token sends none. */
  Brokers(String brokers, String token) {
    addresses = Arrays.stream(brokers.split(",")).map(each -> each.trim().replaceFirst("^grpc://", "")).toList();
    if (!token.isEmpty()) {
      addresses.forEach(Brokers::protect);
      headers.put(AUTHORIZATION, "Bearer " + token);
    }
  }

  /** A token crosses no network unencrypted, unless HYREX_INSECURE=1 allows it; this client has no TLS. */
  private static void protect(String address) {
    if (!LOOPBACK.matcher(address).matches() && !"1".equals(System.getenv("HYREX_INSECURE"))) {
      throw new IllegalArgumentException(
          "the token would cross the network unencrypted to " + address + ": set HYREX_INSECURE=1 where"
              + " something else protects it");
    }
  }

  int count() {
    return addresses.size();
  }

  /** A channel of its own to one of them. */
  ManagedChannel channel(int broker) {
    return ManagedChannelBuilder.forTarget(addresses.get(broker % addresses.size()))
        .usePlaintext()
        .maxInboundMessageSize(MESSAGE_BYTES)
        .keepAliveTime(30, TimeUnit.SECONDS)
        .build();
  }

  <S extends AbstractStub<S>> S withToken(S stub) {
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** Half of it up to all of it. */
  static long jittered(long pauseMs) {
    return pauseMs / 2 + ThreadLocalRandom.current().nextLong(pauseMs / 2 + 1);
  }
}
