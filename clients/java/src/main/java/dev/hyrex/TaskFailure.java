package dev.hyrex;

import java.time.Duration;

/** Thrown by a task to say more of its failure than any other exception does. */
public class TaskFailure extends RuntimeException {
  private boolean retryable = true;
  private Duration retryDelay;

  /** A failure that is retried while retries remain. */
  public TaskFailure(String message) {
    super(message);
  }

  /** Not to be retried. */
  public TaskFailure last() {
    retryable = false;
    return this;
  }

  /** To be retried after this long. */
  public TaskFailure retryAfter(Duration delay) {
    retryDelay = delay;
    return this;
  }

  boolean isRetryable() {
    return retryable;
  }

  Duration retryDelay() {
    return retryDelay;
  }
}
