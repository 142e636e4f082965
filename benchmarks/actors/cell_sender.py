"""Sends tasks of several queues with the SDK, to whatever cells the environment names.

Orders: {"queues": [...], "count": N, "chunk": M} sends so many, mixed, with send_many. {"queues": [...],
"halves_s": S} sends task after task to each queue from a thread of its own, for 2 S seconds, and answers
with the longest time between two answers in each half, by queue.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.actors import app
from benchmarks.actors.orders import obey
from hyrex import HyrexError, send_many


def order(queues: Sequence[str], count: int = 0, chunk: int = 1, halves_s: float = 0.0) -> dict[str, Any]:
    """Do what an order says."""
    if halves_s:
        return {"gaps": _gaps(queues, halves_s)}
    tasks = [app.handle.with_config(queue=queue) for queue in queues]
    for first in range(0, count, chunk):
        numbers = range(first, min(first + chunk, count))
        send_many(tasks[number % len(tasks)].call(app.order(number)) for number in numbers)
    return {}


def _gaps(queues: Sequence[str], half_s: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    began = time.monotonic()

    def work(queue: str) -> None:
        found[queue] = _longest(queue, began, half_s)

    crew = [threading.Thread(target=work, args=(queue,)) for queue in queues]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return found


def _longest(queue: str, began: float, half_s: float) -> list[float]:
    """The longest time between two answers, in each half."""
    task, longest = app.handle.with_config(queue=queue), [0.0, 0.0]
    answered = began
    while answered < began + 2 * half_s:
        try:
            task.send(app.order(1))
        except HyrexError:
            pass  # its cell is dead
        now = time.monotonic()
        half = 0 if answered < began + half_s else 1
        longest[half] = max(longest[half], now - answered)
        answered = now
    return longest


if __name__ == "__main__":
    obey(order)
