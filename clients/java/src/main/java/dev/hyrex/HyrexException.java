package dev.hyrex;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import dev.hyrex.v1.ErrorReason;
import dev.hyrex.v1.ItemError;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.util.Map;

/** Why a call or an item was refused: the broker's typed reason, never to be guessed from texts. */
public final class HyrexException extends RuntimeException {
  private final Status.Code code;
  private final String reason;
  private final Map<String, String> metadata;

  HyrexException(Status.Code code, String reason, String message, Map<String, String> metadata) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.metadata = metadata;
  }

  /** The error that a failed call bears. */
  static HyrexException of(Throwable failure) {
    if (failure instanceof HyrexException known) {
      return known;
    }
    Status status = Status.fromThrowable(failure);
    ErrorInfo info = info(failure);
    String text = status.getDescription() == null ? String.valueOf(status.getCause()) : status.getDescription();
    return new HyrexException(status.getCode(), info.getReason(), text, info.getMetadataMap());
  }

  /** The error of one item of an answer. */
  public static HyrexException of(ItemError item) {
    Status.Code code = Status.fromCodeValue(item.getCode()).getCode();
    return new HyrexException(code, item.getReason(), item.getMessage(), item.getMetadataMap());
  }

  private static ErrorInfo info(Throwable failure) {
    var status = StatusProto.fromThrowable(failure);
    try {
      for (Any detail : status == null ? java.util.List.<Any>of() : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          return detail.unpack(ErrorInfo.class);
        }
      }
    } catch (InvalidProtocolBufferException unreadable) {
      // Details are a help, not a promise.
    }
    return ErrorInfo.getDefaultInstance();
  }

  /** The status. */
  public Status.Code code() {
    return code;
  }

  /** The broker's reason without its prefix, as it came; empty where no broker answered. */
  public String reasonName() {
    return reason;
  }

  /** The reason as one that this client knows, else ERROR_REASON_UNSPECIFIED. */
  public ErrorReason reason() {
    try {
      return ErrorReason.valueOf("ERROR_REASON_" + reason);
    } catch (IllegalArgumentException later) {
      return ErrorReason.ERROR_REASON_UNSPECIFIED;
    }
  }

  /** Details by reason, see {@link ErrorReason}. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /**
   * Whether the same call may be made again, at another broker or later: one that answered has lost its database or
   * goes away, or none answered. gRPC tells the latter as UNAVAILABLE, for some broken connections as UNKNOWN,
   * INTERNAL or CANCELLED, and never with a reason.
   */
  public boolean mayPass() {
    return switch (code) {
      case UNAVAILABLE, UNKNOWN, INTERNAL, CANCELLED -> reason.isEmpty() || isOfBroker();
      default -> isOfBroker();
    };
  }

  private boolean isOfBroker() {
    return switch (reason()) {
      case ERROR_REASON_STORAGE_UNAVAILABLE, ERROR_REASON_DRAINING -> true;
      default -> false;
    };
  }

  /** Whether the session that a worker names is none any more. */
  boolean isEndOfSession() {
    return switch (reason()) {
      case ERROR_REASON_SESSION_ENDED, ERROR_REASON_SESSION_TAKEN_OVER, ERROR_REASON_SESSION_SECRET_INVALID -> true;
      default -> false;
    };
  }

  /** Whether a worker that meets it must not try again: a broker says so, and all would refuse it alike. */
  boolean isFatal() {
    return switch (code) {
      case INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, FAILED_PRECONDITION ->
          !reason.isEmpty() && !isEndOfSession();
      default -> false;
    };
  }
}
