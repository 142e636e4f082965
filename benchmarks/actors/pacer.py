"""Sends at a pace, to HYREX_BROKER_URL.

Orders: {"sends": N}: how long each send() took; {"stamps": N, "gap_s": S}: one stamp task at a time, or
one that holds its place, of a tenant, with a fair key or without ("tenant", "fair");
{"rate": R, "seconds": S, "threads": T}: stamp tasks on a schedule that does not wait for slow sends.
"""

import threading
import time
from typing import Any

from benchmarks.actors import app
from benchmarks.actors.orders import obey


def pace(
    sends: int = 0,
    stamps: int = 0,
    gap_s: float = 0.0,
    rate: float = 0.0,
    seconds: float = 0.0,
    threads: int = 1,
    tenant: str = "",
    fair: bool = False,
) -> dict[str, Any]:
    """Obey one order."""
    if sends:
        return {"ms": [_timed(number) for number in range(sends)]}
    if stamps:
        for _ in range(stamps):
            if tenant:
                (app.hold if fair else app.hold_in_turn).send(time.monotonic_ns(), tenant)
            else:
                app.stamp.send(time.monotonic_ns())
            time.sleep(gap_s)
        return {}
    return {"per_s": _on_schedule(rate, seconds, threads)}


def _timed(number: int) -> float:
    began = time.perf_counter()
    app.handle.send(app.order(number))
    return (time.perf_counter() - began) * 1000


def _on_schedule(rate: float, seconds: float, threads: int) -> float:
    """Send from threads that share the rate; the rate that was reached."""
    count = int(rate * seconds)
    began = time.monotonic()

    def work(first: int) -> None:
        for number in range(first, count, threads):
            time.sleep(max(began + number / rate - time.monotonic(), 0))
            app.stamp.send(time.monotonic_ns())

    crew = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return count / (time.monotonic() - began)


if __name__ == "__main__":
    obey(pace)
