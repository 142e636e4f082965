"""pinned_ratio: cost of an assign after minutes of load with a long transaction held open, over its cost
in a fresh system: the old snapshot keeps vacuum away, so dead rows pile up in the live tables.

Real brokers without hand-off (so that everything is assigned) under a steady rate from raw stubs; they
note what each assign took (benchmarks/actors/plain_broker.py). After the load both take turns.
"""

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.broker_cycle import CAPACITY, WINDOW
from benchmarks.figures import Results
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage

FRAME = 500
WARM_UP_S = 1.0
TURNS = 4


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note the ratio and both costs."""
    with tempfile.TemporaryDirectory(prefix="hyrex-bench-") as folder:
        fresh = Loaded(stage, sizes.pinned_rate, Path(folder) / "fresh")
        pinned = Loaded(stage, sizes.pinned_rate, Path(folder) / "pinned")
        pinned.apply(WARM_UP_S)
        stage.actor("pin", pinned.database)
        pinned.apply(sizes.pinned_s)
        fresh.apply(WARM_UP_S)
        costs = [(fresh.cost(sizes.pinned_turn_s), pinned.cost(sizes.pinned_turn_s)) for _ in range(TURNS)]
    results.add(
        pinned_ratio=round(median(after / before for before, after in costs), 3),
        pinned_assign_us_per_task={
            "fresh": round(median(before for before, _ in costs), 1),
            "pinned": round(median(after for _, after in costs), 1),
        },
        pinned_s=sizes.pinned_s,
        pinned_rate_per_s=sizes.pinned_rate,
    )


class Loaded:
    """A broker that notes its assigns, with a producer at a steady rate and a worker."""

    def __init__(self, stage: Stage, rate: float, journal: Path) -> None:
        self.database = stage.database()
        self._rate = rate
        self._journal = journal
        broker = stage.broker(self.database, handoff=False, env={"BENCH_ASSIGN_JOURNAL": str(journal)})
        self._producer = stage.actor("raw_producer", broker.address)
        self._worker = stage.actor("raw_worker", broker.address, str(CAPACITY))

    def apply(self, seconds: float) -> None:
        """Load for so long; everything is recorded then."""
        count = max(int(self._rate * seconds) // FRAME, 1) * FRAME
        patience_s = 60 + 10 * seconds
        self._worker.order(count=count)
        self._producer.ask(patience_s, count=count, frame=FRAME, window=WINDOW, rate=self._rate)
        self._worker.answer(patience_s)

    def cost(self, seconds: float) -> float:
        """Microseconds per task of the median assign during some seconds of load."""
        start = self._journal.stat().st_size
        self.apply(seconds)
        lines = self._journal.read_text()[start:].split("\n")[:-1]
        assigns = [(float(ms), int(taken)) for ms, taken in (line.split() for line in lines)]
        most = max(taken for _, taken in assigns)
        return median(ms * 1000 / taken for ms, taken in assigns if taken >= most / 2)
