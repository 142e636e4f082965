"""held_ratio: what a task with a scarce concurrency key costs late under a held snapshot, over what it cost
early: the snapshot keeps vacuum away, so each seat that was taken and left stays as a dead row (rule 31).

Two brokers whose tasks share few keys take turns, one without a snapshot: its turns say what the machine does
meanwhile. A cost is the time of a turn for each of its tasks.
"""

from statistics import median
from typing import Final

from benchmarks.broker_cycle import BrokerCycle, More
from benchmarks.figures import Results
from benchmarks.rounds import say
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage

KEYS: Final = 500
_TURNS: Final = 20
_COMPARED: Final = 4
"""So many turns at the beginning and at the end."""


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note the ratio, and the costs of the first and of the last turns."""
    free, held = (
        BrokerCycle(stage, More(keys=KEYS), name=name) for name in ("held_without", "held_snapshot")
    )
    count = max(sizes.held // _TURNS, 1)
    for each in (free, held):
        each.round(count)
    stage.actor("pin", held.database)
    costs: list[tuple[float, float]] = []
    for number in range(1, _TURNS + 1):
        without, under = (1e6 / each.round(count).per_s for each in (free, held))
        costs.append((without, under))
        say(f"  {number * count:,} tasks: {under:.1f} us each, {without:.1f} without a snapshot")
    early, late = (
        {
            "without": round(median(each[0] for each in some), 1),
            "snapshot": round(median(each[1] for each in some), 1),
        }
        for some in (costs[:_COMPARED], costs[-_COMPARED:])
    )
    results.add(
        held_ratio=round(late["snapshot"] / early["snapshot"] / (late["without"] / early["without"]), 3),
        held_early_us=early,
        held_late_us=late,
        held_tasks=count * _TURNS,
    )
