"""Sends tasks with the SDK, to HYREX_BROKER_URL.

Orders: {"count": N, "chunk": M} uses send_many; {"count": N, "threads": T} plain send() from threads.
"""

import threading
import time
from typing import Any

from benchmarks.actors import app
from benchmarks.actors.orders import obey
from hyrex import send_many


def send(count: int, chunk: int = 0, threads: int = 0) -> dict[str, Any]:
    """Send and return when it began; all is stored then."""
    began = time.monotonic()
    if threads:
        _send_singly(count, threads)
    else:
        for first in range(0, count, chunk):
            send_many(app.handle.call(app.order(n)) for n in range(first, min(first + chunk, count)))
    return {"began": began}


def _send_singly(count: int, threads: int) -> None:
    def work(first: int) -> None:
        for number in range(first, count, threads):
            app.handle.send(app.order(number))

    crew = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()


if __name__ == "__main__":
    obey(send)
