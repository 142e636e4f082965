"""The cycles side by side: how many tasks a second go all the way, through more and more of the system."""

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.broker_cycle import BrokerCycle, More
from benchmarks.figures import Results
from benchmarks.rounds import Contestant, Rounds, alternate, cpu, cpu_ratio, rate, ratio
from benchmarks.sdk_cycle import SdkCycle, SdkSystem
from benchmarks.sizes import Sizes
from benchmarks.sql_cycle import SqlCycle
from benchmarks.stage import Stage

_SDK: Final = ("sdk_cycle", "sdk_single_cycle")
NAMES: Final = (
    "sql_cycle", "broker_cycle", "broker_cycle_no_handoff", "broker_cycle_headers", *_SDK,
)  # fmt: skip
_HEADED: Final = 10
RATIOS: Final = (
    ("broker_cycle_no_handoff", "sql_cycle"),
    ("broker_cycle", "sql_cycle"),
    ("broker_cycle_headers", "broker_cycle"),
    ("sdk_cycle", "sql_cycle"),
    ("sdk_cycle", "broker_cycle"),
    ("sdk_single_cycle", "sdk_cycle"),
)


def measure(stage: Stage, sizes: Sizes, names: Sequence[str], results: Results) -> None:
    """Let the named contestants take turns; note rates, ratios and CPU per task."""
    found = contestants(stage, names)
    counts = {name: sizes.single_cycle if name == "sdk_single_cycle" else sizes.cycle for name in names}
    note(alternate(found, counts, sizes.rounds), RATIOS, results)


def contestants(stage: Stage, names: Sequence[str]) -> list[Contestant]:
    """The named ones, in the order of NAMES."""
    alone: dict[str, Callable[[], Contestant]] = {
        "sql_cycle": lambda: SqlCycle(stage),
        "broker_cycle": lambda: BrokerCycle(stage),
        "broker_cycle_no_handoff": lambda: BrokerCycle(stage, handoff=False),
        "broker_cycle_headers": lambda: BrokerCycle(stage, More(headed=_HEADED), name="broker_cycle_headers"),
    }
    sdk = [name for name in _SDK if name in names]
    makers: list[Callable[[], Contestant | SdkSystem]] = [alone[name] for name in alone if name in names]
    if sdk:
        makers.append(lambda: SdkSystem(stage))
    found: list[Contestant] = []
    for each in stage.start(*makers):
        if isinstance(each, SdkSystem):
            found += [SdkCycle(stage, each, single=name == "sdk_single_cycle") for name in sdk]
        else:
            found.append(each)
    return found


def note(found: Rounds, ratios: Sequence[tuple[str, str]], results: Results) -> None:
    """Note rates and CPU per task, and the ratios of those pairs that were measured."""
    for name, rounds in found.items():
        spent = cpu(rounds)
        spent["sum"] = round(sum(spent.values()), 1)
        results.add(**{f"{name}_per_s": round(rate(rounds))}, cpu_us_per_task={name: spent})
    for above, below in ratios:
        if above in found and below in found:
            name = f"{above}/{below}"
            results.add(ratios={name: round(ratio(found[above], found[below]), 3)})
            results.add(cpu_ratios={name: round(cpu_ratio(found[above], found[below]), 3)})
