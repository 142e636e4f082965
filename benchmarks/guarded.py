"""What tokens, metrics and TLS cost: the SDK's cycles with each of them, beside without, in one run."""

from collections.abc import Mapping
from typing import Final

from benchmarks.cycles import note
from benchmarks.figures import Results
from benchmarks.guards import NO_GUARD, Guard, WithMetrics, WithTls, WithTokens
from benchmarks.rounds import Contestant, alternate
from benchmarks.sdk_cycle import SdkCycle, SdkSystem
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage

WITHOUT: Final = "nothing"
CYCLES: Final = ("sdk_cycle", "sdk_single_cycle")
GUARDS: Final[Mapping[str, type[Guard]]] = {"tokens": WithTokens, "metrics": WithMetrics, "tls": WithTls}
RATIOS: Final = tuple((f"{cycle}_{guard}", f"{cycle}_{WITHOUT}") for cycle in CYCLES for guard in GUARDS)


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Let systems with one of them each, and one with none, take turns; note rates, ratios and CPU time."""
    kinds: dict[str, Guard] = {WITHOUT: NO_GUARD} | {name: guard() for name, guard in GUARDS.items()}
    systems = stage.start(*(lambda guard=guard: SdkSystem(stage, guard) for guard in kinds.values()))
    found: list[Contestant] = []
    counts: dict[str, int] = {}
    for cycle, count in zip(CYCLES, (sizes.cycle, sizes.single_cycle), strict=True):
        for kind, system in zip(kinds, systems, strict=True):
            single = cycle == "sdk_single_cycle"
            found.append(SdkCycle(stage, system, single=single, name=f"{cycle}_{kind}"))
            counts[found[-1].name] = count
    note(alternate(found, counts, sizes.guard_rounds), RATIOS, results)
