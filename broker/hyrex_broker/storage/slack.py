"""How long a worker may take over what it was told before the broker ends the run itself."""

from datetime import timedelta
from typing import Final

_WORKER_MS: Final = 15_000
"""The worker's grace (5 s), and what a run may wait there before it starts."""


def slack_ms(lease_duration: timedelta) -> int:
    """What a run may have beyond its timeout, or after a cancel. A worker that was cut off for less than its
    lease still obeys, and reports, before the broker overtakes it."""
    return _WORKER_MS + round(lease_duration / timedelta(milliseconds=1))
