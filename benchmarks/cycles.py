"""The cycles side by side: how many tasks a second go all the way, through more and more of the system."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from benchmarks.broker_cycle import BrokerCycle
from benchmarks.figures import Results
from benchmarks.rounds import Contestant, Rounds, alternate, cpu, rate, ratio
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage

CONTESTANTS: Final[Mapping[str, Callable[[Stage], Contestant]]] = {
    "broker_cycle": BrokerCycle,
    "broker_cycle_no_handoff": lambda stage: BrokerCycle(stage, handoff=False),
}
RATIOS: Final = (
    ("broker_cycle_no_handoff", "sql_cycle"),
    ("broker_cycle", "sql_cycle"),
    ("sdk_cycle", "broker_cycle"),
    ("sdk_single_cycle", "sdk_cycle"),
)


def measure(stage: Stage, sizes: Sizes, names: Sequence[str], results: Results) -> None:
    """Let the named contestants take turns; note rates, ratios and CPU per task."""
    contestants = [CONTESTANTS[name](stage) for name in names]
    counts = {name: sizes.single_cycle if name == "sdk_single_cycle" else sizes.cycle for name in names}
    _note(alternate(contestants, counts, sizes.rounds), results)


def _note(found: Rounds, results: Results) -> None:
    for name, rounds in found.items():
        results.add(**{f"{name}_per_s": round(rate(rounds))}, cpu_us_per_task={name: cpu(rounds)})
    for above, below in RATIOS:
        if above in found and below in found:
            results.add(ratios={f"{above}/{below}": round(ratio(found[above], found[below]), 3)})
