"""What became of each fault of a pair: seconds until sends succeeded and runs went on, and what it cost."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.record import FOREVER, Disturbance, Record


@dataclass(frozen=True, slots=True)
class Failover:
    """One fault. Seconds are of the moment when a server accepted writes (again); None: never."""

    fault: str
    away_s: float
    """From the fault until a server accepted writes."""
    sends_s: float | None
    """From then until a send was acknowledged."""
    runs_s: float | None
    """From then until something sent since began to run."""
    began: float
    promoted: bool

    def figures(self) -> dict[str, Any]:
        """For reports: without the times of this machine's clock."""
        return {name: value for name, value in asdict(self).items() if name != "began"}


def failovers(record: Record) -> Iterator[Failover]:
    """The faults of a pair, in order. Each counts as an outage until runs went on after it."""
    for each in record.disturbances:
        if each.name:
            sent = min((at for at in record.sent.values() if at > each.ended), default=FOREVER)
            ran = min(_began_since(record, each), default=FOREVER)
            yield Failover(
                each.name,
                round(each.seconds, 2),
                _seconds(sent - each.ended),
                _seconds(ran - each.ended),
                each.began,
                each.promoted is not None,
            )
            each.ended = max(each.ended, ran) if ran < FOREVER else each.ended


def _began_since(record: Record, fault: Disturbance) -> Iterator[float]:
    for task, at in record.sent.items():
        if at > fault.ended and task in record.executions:
            yield record.executions[task][0].began


def _seconds(found: float) -> float | None:
    return round(found, 2) if found < FOREVER else None
