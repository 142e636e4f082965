"""How long a worker may take to stop a run before the broker ends the run itself."""

from datetime import timedelta
from typing import Final

_WORKER_MS: Final = 15_000
"""The worker's grace (5 s), and what a run may wait there before it starts."""


def slack_ms(lease_duration: timedelta) -> int:
    """How long a run may go on after its timeout or a cancel. Enough for a worker that was disconnected for
    less than its lease to stop the run and report it before the broker ends it."""
    return _WORKER_MS + round(lease_duration / timedelta(milliseconds=1))
