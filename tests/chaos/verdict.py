"""The verdict: the journal against the database.

Lost, recorded twice, executed again without loss, over a limit or a key's maximum: each must be nothing.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from hyrex_broker.storage.report import REDELIVERIES_BOUND
from tests.chaos.app import MOST_BY_KEY, QUEUE_LIMIT, TASK_LIMIT
from tests.chaos.record import FOREVER, Disturbance, Execution, Record
from tests.chaos.recovery import recovery_times
from tests.support.postgres import connect

COMPLETED, FAILED, CANCELLED, LOST = 2, 3, 5, 6
_LIMITS: Final = {
    "limited": TASK_LIMIT,
    "narrow": QUEUE_LIMIT,
    "one_by_one": 1,
    "some_at_once": MOST_BY_KEY,
}
"""How many run at once: of all, or of those with one concurrency key."""
_EXPECTED: Final = {
    "failing": {FAILED},
    "long_to_cancel": {COMPLETED, CANCELLED},
    "expiring": {COMPLETED, CANCELLED},
    "keyed_to_cancel": {COMPLETED, CANCELLED},
    "keyed_expiring": {COMPLETED, CANCELLED},
    "workflow": {COMPLETED, FAILED},
    "workflow_to_cancel": {COMPLETED, FAILED, CANCELLED},
}
_RUN_BY_NOBODY: Final = frozenset({"workflow", "workflow_to_cancel"})
"""Roots of workflows: their nodes are executed (tests/chaos/workflows.py)."""
_KILLS_OF_WORKERS: Final = ("stream_kill", "worker_kill", "worker_restart", "worker_stop")
_SILENCES: Final = ("link_silence", "database_link_silence")
_SLACK_S: Final = 0.3
_LEAVING_S: Final = 20.0
"""How long a worker that was told to leave may take: what begins meanwhile may be given back."""
_FOUND_AGAIN_S: Final = 2.0
"""How long brokers may take, beside much else on one machine, to answer once their database is back."""
_TOO_LONG: Final = 0.95
"""Of `--lease-duration`. What is away for less than that costs no run; the rest is the tests' own time."""


@dataclass
class Verdict:
    """The figures, and a line for each thing that is wrong."""

    acknowledged: int = 0
    completed: int = 0
    lost: int = 0
    given_up: int = 0
    recorded_twice: int = 0
    executed_again_without_loss: int = 0
    over_limit: int = 0
    stale_refused: int = 0
    refused_by_key: int = 0
    retried: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    seconds_to_recover: dict[str, float | None] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """What is written to the file: these keys and no others."""
        return {name: value for name, value in vars(self).items() if name != "complaints"}

    @property
    def good(self) -> bool:
        """True if every promise was kept."""
        broken = self.lost + self.recorded_twice + self.executed_again_without_loss + self.over_limit
        return broken == 0 and not self.complaints


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database says of a task."""

    live: bool
    runs: list[tuple[int, int, bool]]
    """(run number, outcome, final) in order"""
    reopened: frozenset[int] = frozenset()
    """The runs whose end somebody took back: a retry follows them."""

    @property
    def outcome(self) -> int | None:
        """How it ended; None while it has not."""
        return self.runs[-1][1] if self.runs and self.runs[-1][2] and not self.live else None

    @property
    def last_life(self) -> list[tuple[int, int, bool]]:
        """The runs since the last retry."""
        return [run for run in self.runs if run[0] > max(self.reopened, default=-1)]

    def was_retried(self, first: Execution, again: Execution) -> bool:
        """Return True if a retry was between two executions."""
        return any(first.run <= run < again.run for run in self.reopened)


async def read_stored(database_url: str) -> dict[str, Stored]:
    """Every task of the database."""
    connection = await connect(database_url)
    try:
        rows = await connection.fetch(
            "select t.id::text, exists (select from ready where task_id = t.id)"
            " or exists (select from delayed where task_id = t.id)"
            " or exists (select from lease where task_id = t.id)"
            " or exists (select from blocked where task_id = t.id) as live,"
            " (select array_agg(array[run_number, outcome, final::integer] order by run_number)"
            "  from task_run r where r.task_id = t.id) as runs,"
            " array(select after_run_number from reopen o where o.task_id = t.id) as reopened"
            " from task t"
        )
    finally:
        await connection.close()
    return {
        row["id"]: Stored(
            row["live"],
            [(run, outcome, bool(final)) for run, outcome, final in row["runs"] or ()],
            frozenset(row["reopened"]),
        )
        for row in rows
    }


def judge(record: Record, stored: Mapping[str, Stored], lease_s: float) -> Verdict:
    """Compare; the caller adds kills, stale reports and crashes."""
    verdict = Verdict(acknowledged=len(record.acknowledged))
    _judge_ends(verdict, record, stored, lease_s)
    _judge_recording(verdict, record, stored)
    _judge_refusals(verdict, record, stored)
    _judge_repetitions(verdict, record, stored, lease_s)
    _judge_limits(verdict, record, lease_s)
    recoveries = list(recovery_times(record))
    verdict.seconds_to_recover = {
        "median": round(statistics.median(recoveries), 3) if recoveries else None,
        "max": round(max(recoveries), 3) if recoveries else None,
    }
    return verdict


def _judge_ends(verdict: Verdict, record: Record, stored: Mapping[str, Stored], lease_s: float) -> None:
    for task, kinds in record.acknowledged.items():
        outcome = stored[task].outcome if task in stored else None
        verdict.completed += outcome == COMPLETED
        expected = set.union(*(_EXPECTED.get(kind, {COMPLETED}) for kind in kinds))
        if outcome == LOST and _met_too_much(stored[task], record, task, lease_s):
            verdict.given_up += 1
        elif outcome not in expected:
            verdict.lost += 1
            verdict.complaints.append(f"lost: {task} {kinds} ended as {outcome}: {stored.get(task)}")
        elif kinds <= _RUN_BY_NOBODY:
            continue
        elif outcome == COMPLETED and not any(e.how == "completed" for e in record.executions[task]):
            verdict.lost += 1
            verdict.complaints.append(f"lost: {task} {kinds} is recorded as completed and was never executed")


def _met_too_much(known: Stored, record: Record, task: str, lease_s: float) -> bool:
    """Return True if each of its runs was lost, one more than is redelivered, and the storm explains the last
    as well; those before are judged as repetitions."""
    runs = known.last_life
    if len(runs) <= REDELIVERIES_BOUND or any(outcome != LOST for _, outcome, _ in runs):
        return False
    last = record.executions[task][-1]
    return _explained(last, replace(last, began=FOREVER), record.disturbances, lease_s)


def _judge_recording(verdict: Verdict, record: Record, stored: Mapping[str, Stored]) -> None:
    for task, known in stored.items():
        kept = [run for run in known.runs if run[0] not in known.reopened]
        finals = sum(final for _, _, final in kept)
        completed = sum(outcome == COMPLETED for _, outcome, _ in kept)
        if finals > 1 or completed > 1:
            verdict.recorded_twice += 1
            verdict.complaints.append(f"recorded twice: {task} {known.runs}, retried {known.reopened}")
    for key, tasks in record.keys.items():
        if len(tasks) > 1:
            verdict.recorded_twice += 1
            verdict.complaints.append(f"one key, several tasks: {key} {tasks}")


def _judge_repetitions(
    verdict: Verdict, record: Record, stored: Mapping[str, Stored], lease_s: float
) -> None:
    verdict.retried = sum(len(known.reopened) for known in stored.values())
    for task, executions in record.executions.items():
        for first, again in pairwise(executions):
            if first.how == "failed" or (task in stored and stored[task].was_retried(first, again)):
                continue
            if not _explained(first, again, record.disturbances, lease_s):
                verdict.executed_again_without_loss += 1
                verdict.complaints.append(f"executed again without loss: {first} then {again}")
        asked_at = record.cancelled.get(task, FOREVER)
        # What was on its way to a worker may begin, and is then stopped; what has begun never does again.
        on_its_way_s = lease_s if len(executions) == 1 else 0
        if executions[-1].began > asked_at + on_its_way_s:
            verdict.executed_again_without_loss += 1
            verdict.complaints.append(f"executed after its cancel at {asked_at}: {executions[-1]}")


def _explained(first: Execution, again: Execution, disturbances: list[Disturbance], lease_s: float) -> bool:
    """Return True if something befell the first execution's own worker, or everybody's database, so that it
    could not end or report. Brokers that come and go, and short cuts, explain nothing."""
    for each in disturbances:
        slack_s = _LEAVING_S if each.kind == "worker_restart" else _SLACK_S
        if each.ended < first.began - slack_s or each.began > again.began:
            continue
        if each.kind == "child_kill" and each.pid == first.pid:
            return True
        if each.kind in _KILLS_OF_WORKERS and each.victim == first.worker:
            return True
        lasted_s = min(each.ended, again.began) - each.began
        touched = each.kind != "link_silence" or each.victim == first.worker
        if each.kind in _SILENCES and touched and lasted_s > lease_s / 2:
            return True
        if each.victim == "postgres" and _outage_s(each, disturbances, lease_s) > _TOO_LONG * lease_s:
            return True
    return False


def _outage_s(outage: Disturbance, disturbances: list[Disturbance], lease_s: float) -> float:
    """How long a worker may be without an answer where Postgres goes away while brokers are stopped: until it
    takes its own broker for dead (half a lease), and then until there is a database to resume at. It is there
    when somebody is answered again, or should be."""
    unnoticed_s = [
        min(outage.began - stop.began, lease_s / 2)
        for stop in disturbances
        if stop.kind == "broker_stop" and stop.began < outage.began <= stop.ended
    ]
    found_again_s = min((outage.answered or outage.ended) - outage.ended, _FOUND_AGAIN_S)
    return outage.seconds + found_again_s + max(unnoticed_s, default=0.0)


def _judge_refusals(verdict: Verdict, record: Record, stored: Mapping[str, Stored]) -> None:
    """What a key refused is not stored, not even by an earlier attempt whose answer was lost."""
    verdict.refused_by_key = len(record.refused)
    for task, holder in record.refused:
        if task in stored or (task and task == holder):
            verdict.complaints.append(f"refused though stored: {task}, its key held by {holder}")


def _judge_limits(verdict: Verdict, record: Record, lease_s: float) -> None:
    """At no moment more executions under a limit than it allows, counting those that ended by themselves:
    of the others nobody knows when they ended. One whose worker was stopped counts until then."""
    bounded: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for each in (one for all_of in record.executions.values() for one in all_of):
        if each.name in _LIMITS and each.how in ("completed", "failed"):
            until = _under_way_until(each, record, lease_s)
            bounded[each.name, each.key] += [(each.began, 1), (until, -1)]
    for (name, key), changes in bounded.items():
        running = 0
        for at, change in sorted(changes):
            running += change
            if running > _LIMITS[name] and change > 0:
                verdict.over_limit += 1
                verdict.complaints.append(f"over the limit: {running} of {name} {key} at {at}")


def _under_way_until(execution: Execution, record: Record, lease_s: float) -> float:
    """Its end, or the moment at which its worker was stopped for so long that its lease may have ended: what
    it does when it is let go on is refused, and docs/promises.md names it."""
    stops = (
        each.began
        for each in record.disturbances
        if each.kind == "worker_stop" and each.victim == execution.worker and each.seconds > lease_s / 2
    )
    return min([execution.ended, *(at for at in stops if execution.began < at < execution.ended)])
