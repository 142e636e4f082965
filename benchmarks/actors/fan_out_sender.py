"""Sends a task that sends others and joins their results, to HYREX_BROKER_URL.

Order: {"count": N}: answers when the task has ended that had so many.
"""

import time
from typing import Any

from benchmarks.actors import app
from benchmarks.actors.orders import obey

_WITHIN_S = 600.0


def fan_out(count: int) -> dict[str, Any]:
    """Send it and wait for its result; when it began and ended."""
    began = time.monotonic()
    found = app.sum_of_orders.send(count).result(timeout=_WITHIN_S)
    if found != count * (count - 1) // 2:
        raise RuntimeError(f"the join of {count} results is wrong: {found}")
    return {"began": began, "ended": time.monotonic()}


if __name__ == "__main__":
    obey(fan_out)
