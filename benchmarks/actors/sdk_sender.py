"""Sends tasks with the SDK, to HYREX_BROKER_URL.

Orders: {"count": N, "chunk": M, "threads": T} uses send_many, {"count": N, "threads": T} plain send(), from
so many threads.
"""

import threading
import time
from typing import Any

from benchmarks.actors import app
from benchmarks.actors.orders import obey
from hyrex import send_many


def send(count: int, threads: int, chunk: int = 0) -> dict[str, Any]:
    """Send and return when it began; all is stored then."""
    began = time.monotonic()
    chunks = iter(range(0, count, chunk or 1))

    def work() -> None:
        for first in chunks:  # shared: whoever is free takes the next
            if chunk:
                numbers = range(first, min(first + chunk, count))
                send_many(app.handle.call(app.order(number)) for number in numbers)
            else:
                app.handle.send(app.order(first))

    crew = [threading.Thread(target=work) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return {"began": began}


if __name__ == "__main__":
    obey(send)
