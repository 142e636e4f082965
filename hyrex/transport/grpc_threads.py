"""gRPC's own threads: they end some time after its last object, and a fork before that may hang."""

import time
from pathlib import Path
from typing import Final

__all__ = ["wait_for_grpc_to_end"]

TASKS: Final = Path("/proc/self/task")
NAMES: Final = ("event_engine", "grpc", "lifeguard", "timer_manager")
LONGEST_S: Final = 0.25
PAUSE_S: Final = 0.001


def wait_for_grpc_to_end() -> None:
    """Wait until no thread of gRPC is left (on Linux; elsewhere nobody tells). Where others use gRPC in this
    process some always are, so it waits a moment at most."""
    ends = time.monotonic() + LONGEST_S
    while _any_left() and time.monotonic() < ends:
        time.sleep(PAUSE_S)


def _any_left() -> bool:
    try:
        return any((task / "comm").read_text().startswith(NAMES) for task in TASKS.iterdir())
    except OSError:
        return TASKS.exists()  # one has just ended: look again
