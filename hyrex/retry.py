"""Decides when a failed run is retried.

`retry_backoff` is seconds, a timedelta, or a callable of the retry number 1, 2, ... If the callable raises or
returns no valid delay, that is logged, and the default is used.
"""

import logging
import random
from datetime import timedelta
from typing import Final

from hyrex.options import Backoff, checked_seconds

__all__ = ["checked_backoff", "default_delay_s", "retry_delay_s"]

log = logging.getLogger("hyrex.retry")

LONGEST_S: Final = 300.0
JITTER: Final = 0.2


def default_delay_s(retry_number: int) -> float:
    """min(2**(n-1), 300) seconds, plus or minus up to 20 % so that retries do not come all at once."""
    bare = min(2.0 ** min(max(retry_number, 1) - 1, 16), LONGEST_S)
    return bare * random.uniform(1 - JITTER, 1 + JITTER)


def retry_delay_s(backoff: Backoff | None, retry_number: int, task_name: str) -> float:
    """Seconds before retry number 1, 2, ...; never raises."""
    if backoff is None:
        return default_delay_s(retry_number)
    if not callable(backoff):
        return backoff.total_seconds() if isinstance(backoff, timedelta) else float(backoff)
    try:
        return checked_seconds("retry_backoff", backoff(retry_number))
    except BaseException:  # user code may call sys.exit()
        log.exception("retry_backoff of %s failed for retry %d, the default is used", task_name, retry_number)
        return default_delay_s(retry_number)


def checked_backoff(value: object) -> Backoff | None:
    """The value as a backoff, or TypeError / ValueError."""
    if value is None or callable(value):
        return value
    return checked_seconds("retry_backoff", value)
