"""pinned_ratio: cost of an assign after minutes of load with a long transaction held open, over its cost
before: the snapshot keeps vacuum away, so dead rows pile up in the live tables.

A real broker without hand-off (so that everything is assigned) under a steady rate from raw stubs; it
notes what each assign took (benchmarks/actors/plain_broker.py). Medians of a window before and at the end.
"""

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.broker_cycle import CAPACITY, WINDOW
from benchmarks.figures import Results
from benchmarks.processes import Process
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage

FRAME = 500
WARM_UP_S = 1.0


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note the ratio and both costs."""
    with tempfile.TemporaryDirectory(prefix="hyrex-bench-") as folder:
        journal = Path(folder) / "assigns"
        database = stage.database()
        broker = stage.broker(database, handoff=False, env={"BENCH_ASSIGN_JOURNAL": str(journal)})
        producer = stage.actor("raw_producer", broker.address)
        worker = stage.actor("raw_worker", broker.address, str(CAPACITY))
        load = Load(producer, worker, sizes.pinned_rate)
        load.apply(WARM_UP_S)
        before = _costs(journal, load, sizes.pinned_window_s)
        pin = stage.actor("pin", database)
        load.apply(sizes.pinned_s)
        after = _costs(journal, load, sizes.pinned_window_s)
        pin.kill()
    results.add(
        pinned_ratio=round(median(after) / median(before), 3),
        pinned_assign_ms={"before": round(median(before), 2), "after": round(median(after), 2)},
        pinned_s=sizes.pinned_s,
        pinned_rate_per_s=sizes.pinned_rate,
    )


class Load:
    """A producer and a worker at a steady rate."""

    def __init__(self, producer: Process, worker: Process, rate: float) -> None:
        self._producer = producer
        self._worker = worker
        self._rate = rate

    def apply(self, seconds: float) -> None:
        """Load for so long; everything is recorded then."""
        count = max(int(self._rate * seconds) // FRAME, 1) * FRAME
        patience_s = 60 + 10 * seconds
        self._worker.order(count=count)
        self._producer.ask(patience_s, count=count, frame=FRAME, window=WINDOW, rate=self._rate)
        self._worker.answer(patience_s)


def _costs(journal: Path, load: Load, seconds: float) -> list[float]:
    """Milliseconds of every assign that took a whole frame during some seconds of load."""
    start = journal.stat().st_size
    load.apply(seconds)
    lines = journal.read_text()[start:].split("\n")[:-1]
    costs = [(float(ms), int(taken)) for ms, taken in (line.split() for line in lines)]
    full = [ms for ms, taken in costs if taken >= FRAME // 2]
    return full or [ms for ms, _ in costs]
