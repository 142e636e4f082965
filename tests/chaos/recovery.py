"""How long it took until what was killed ran again, and until tasks flowed again."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.chaos.record import Disturbance, Record

_KILLS_OF_PARTS: Final = ("stream_kill", "child_kill")
_SETTLED_S: Final = 1.0


def recovery_times(record: Record, kinds: tuple[str, ...] = _KILLS_OF_PARTS) -> Iterator[float]:
    """Seconds from a kill until a run that it ended runs again, where nothing else was disturbed between
    (else it would be the time to recover from several faults)."""
    for kill in record.disturbances:
        if kill.kind not in kinds:
            continue
        for executions in record.executions.values():
            for first, again in pairwise(executions):
                hit = first.pid == kill.pid if kill.kind == "child_kill" else first.worker == kill.victim
                hit = hit and not first.how and first.began < kill.began < again.began
                if hit and _undisturbed(record, kill, again.began):
                    yield again.began - kill.began


def _undisturbed(record: Record, kill: Disturbance, until: float) -> bool:
    others = (each for each in record.disturbances if each is not kill)
    return all(each.ended < kill.began - _SETTLED_S or each.began > until for each in others)


def flow_times(record: Record) -> Iterator[float]:
    """Seconds from a return of Postgres until a task that was sent after it begins."""
    begun = sorted(
        (record.sent[task], executions[0].began)
        for task, executions in record.executions.items()
        if task in record.sent
    )
    for outage in record.disturbances:
        if outage.kind.startswith("postgres"):
            after = [began for sent, began in begun if sent > outage.ended]
            if after:
                yield min(after) - outage.ended


def executions_by_end(record: Record) -> Counter[str]:
    """How many executions ended how, for people."""
    return Counter(each.how or "cut short" for all_of in record.executions.values() for each in all_of)
