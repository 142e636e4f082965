"""What one caller's send() takes beside others' bulk: `python -m benchmarks.beside`.

A broker with a worker that ends what it is given; one process sends one task after the other while another
one submits as fast as it is answered, over so many streams of frames, or with so many unary calls under way.
The figures: p50 and p99 of the single sends in ms, and how many tasks of the bulk were stored per second.
"""

import sys
import time
from typing import Any, Final

from benchmarks.broker_cycle import CAPACITY
from benchmarks.latency import percentile
from benchmarks.stage import Stage

SENDS: Final = 300
SETTLE_S: Final = 2.0
PATIENCE_S: Final = 120.0
BESIDE: Final[dict[str, dict[str, Any]]] = {
    "nothing": {},
    "1 stream of frames of 1,000": {"streams": 1, "frame": 1000},
    "10 streams of frames of 1,000": {"streams": 10, "frame": 1000},
    "40 streams of frames of 1,000": {"streams": 40, "frame": 1000},
    "40 streams of frames of 50": {"streams": 40, "frame": 50},
    "40 streams of frames of 16": {"streams": 40, "frame": 16},
    "10 connections, 100 calls each": {"calls": 10, "each": 100},
}


def main() -> int:
    """The exit status."""
    with Stage() as stage:
        for name, order in BESIDE.items():
            if len(sys.argv) < 2 or any(word in name for word in sys.argv[1:]):
                _measure(stage, name, order)
    return 0


def _measure(stage: Stage, name: str, order: dict[str, Any]) -> None:
    broker = stage.broker(stage.database())
    pacer = stage.actor("pacer", env={"HYREX_BROKER_URL": broker.url})
    crowd = stage.actor("bulk_crowd", broker.address)
    stage.actor("raw_worker", broker.address, str(CAPACITY)).order(count=10**9)
    pacer.ask(PATIENCE_S, sends=20)
    crowd.ask(PATIENCE_S, **order)
    time.sleep(SETTLE_S)
    crowd.ask(PATIENCE_S)
    began = time.monotonic()
    sends = pacer.ask(PATIENCE_S, sends=SENDS)["ms"]
    answered = crowd.ask(PATIENCE_S)["answered"]
    rate = answered / (time.monotonic() - began)
    print(
        f"{name:32} p50 {percentile(sends, 50):7.1f} ms, p99 {percentile(sends, 99):7.1f} ms,"
        f" beside {rate:6.0f} tasks/s",
        flush=True,
    )
    stage.strike()


if __name__ == "__main__":
    sys.exit(main())
