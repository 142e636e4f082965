"""Rounds: compared measurements take turns (A B A B), so that the machine's drift hits all of them.

A *cycle* is a task submitted, run and recorded; a contestant does so many of them per round.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one contestant: tasks per second, and CPU microseconds per task by process."""

    per_s: float
    cpu_us: Mapping[str, float]

    @classmethod
    def of(cls, tasks: int, seconds: float, cpu_s: Mapping[str, float]) -> "Round":
        """From totals."""
        return cls(tasks / seconds, {name: used / tasks * 1e6 for name, used in cpu_s.items()})


class Contestant(Protocol):
    """Something that can do cycles, with its processes already running."""

    name: str

    def processes(self) -> dict[str, list[int]]:
        """Its processes by name, Postgres left out."""
        ...

    def round(self, tasks: int) -> Round:
        """Do so many cycles."""
        ...


Rounds = Mapping[str, Sequence[Round]]


def alternate(contestants: Sequence[Contestant], sizes: Mapping[str, int], rounds: int) -> Rounds:
    """Warm everyone up, then let them take turns."""
    found: dict[str, list[Round]] = {each.name: [] for each in contestants}
    for each in contestants:
        each.round(max(sizes[each.name] // 5, 1))
    for number in range(1, rounds + 1):
        for each in contestants:
            one = each.round(sizes[each.name])
            found[each.name].append(one)
            say(f"  round {number}/{rounds} {each.name:24} {one.per_s:10,.0f} tasks/s {spent(one.cpu_us)}")
    return found


def rate(rounds: Sequence[Round]) -> float:
    """The median rate."""
    return median(each.per_s for each in rounds)


def best_rate(rounds: Sequence[Round]) -> float:
    """The highest rate."""
    return max(each.per_s for each in rounds)


def ratio(above: Sequence[Round], below: Sequence[Round]) -> float:
    """The median of the ratios, pair by pair."""
    return median(a.per_s / b.per_s for a, b in zip(above, below, strict=True))


def cpu_ratio(above: Sequence[Round], below: Sequence[Round]) -> float:
    """The same of the CPU time of a task in all processes together, which other programs disturb less."""
    pairs = zip(above, below, strict=True)
    return median(sum(a.cpu_us.values()) / (sum(b.cpu_us.values()) or 1.0) for a, b in pairs)


def cpu(rounds: Sequence[Round]) -> dict[str, float]:
    """The median CPU microseconds per task of each process."""
    return {name: round(median(each.cpu_us[name] for each in rounds), 1) for name in rounds[0].cpu_us}


def spent(cpu_us: Mapping[str, float]) -> str:
    """CPU microseconds per task, for people."""
    parts = [f"{name} {used:.1f}" for name, used in cpu_us.items()]
    return f"({', '.join(parts)}; sum {sum(cpu_us.values()):.1f} us CPU a task)"


def say(text: str) -> None:
    """Progress, for whoever watches."""
    print(text, file=sys.stderr, flush=True)
