"""Records ends of runs. Every removal of a lease goes through here, so that cancels and bounds always
apply."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, Protocol

import asyncpg

from hyrex_broker.domain.assigned import each
from hyrex_broker.domain.ended import EndBlock, Named
from hyrex_broker.domain.model import LaneId, LeaseRef, Outcome, RunEnd, SessionId, TaskId, Token
from hyrex_broker.storage.columns import column, ids, integers, shared
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("report")

REDELIVERIES_BOUND: Final = 5
RELEASES_BOUND: Final = 100
_COLUMNS: Final = {
    "elapsed_us": None, "error_type": None, "error_message": None, "traceback": None, "reason": None,
    "retryable": True, "retry_delay_ms": None, "alone": False,
}  # fmt: skip
"""The columns of `report` and what most runs have there, which is what a null means."""


_by_task = attrgetter("task_id")


class Fetches(Protocol):
    """A database, or a transaction of one."""

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Rows of one statement."""
        ...


@dataclass(slots=True)
class RemovedLease:
    """A lease that was removed; where its task runs again, at which rank and how soon."""

    task_id: TaskId
    token: Token
    lane: LaneId
    session_id: SessionId
    rank: int = 0
    requeued_in_ms: int | None = None
    outcome: Outcome = Outcome.COMPLETED


@dataclass(frozen=True, slots=True)
class ReturnedLeases:
    """Leases of one lane and session that ended with runs that returned."""

    lane: LaneId
    session_id: SessionId
    places: Sequence[int] | None
    """Which of the ends that were reported; None: all of them."""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A report that matched no lease: recorded before, or (lost a race) still held, or stale."""

    recorded: bool
    held: bool


@dataclass(frozen=True, slots=True)
class Overdue:
    """A lease past its deadline, or past the time in which a cancelled run must stop."""

    lease: LeaseRef
    session_id: SessionId
    since_s: float
    """When it was assigned, or its cancel was asked for: the database's clock, Unix seconds."""
    allowed_s: float


async def end_runs(database: "Fetches", ends: Sequence[RunEnd]) -> list[RemovedLease]:
    """Record ends and repeat what must be repeated. What is missing from the result matched nothing.

    `database` may be a transaction: the sweeper ends sessions and their runs together.
    """
    ends = sorted(ends, key=_by_task)
    columns = [column([*map(attrgetter(name), ends)], usual) for name, usual in _COLUMNS.items()]
    rows = await database.fetch(
        _SQL["report"],
        ids([end.task_id for end in ends]),
        integers([end.token for end in ends]),
        shared([end.session_id for end in ends]),
        shared([end.outcome for end in ends]),
        *columns,
        REDELIVERIES_BOUND,
        RELEASES_BOUND,
        ends[0].task_id,
        ends[-1].task_id,
        column([end.cause for end in ends], None),
        column([end.error_place for end in ends], None),
    )
    return [
        RemovedLease(end.task_id, end.token, lane, session, rank, delay if again else None, Outcome(outcome))
        for lane, session, places, rank, again, delay, outcome in rows
        for end in [ends[place - 1] for place in places]
    ]


EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ReportStore:
    """Statements of `report.sql`."""

    def __init__(self, database: Database, slack_ms: int) -> None:
        """`slack_ms`: what a run that is cancelled may take to stop."""
        self._database = database
        self.counters = database.counters
        self._slack_ms = slack_ms

    async def end(self, ends: Sequence[RunEnd]) -> list[RemovedLease]:
        """See `end_runs`; in a transaction of its own."""
        return await end_runs(self._database, ends)

    async def end_returned(self, ends: EndBlock) -> list[ReturnedLeases]:
        """Record runs that returned (in the order of their ids, each named once); which of them matched."""
        count = len(ends.tokens)
        rows = await self._database.fetch(
            _SQL["report_completed"],
            ids(ends.task_ids),
            integers(ends.tokens),
            integers(each(ends.elapsed_us, count, 0)),
            ends.results,
            each(ends.content_types, count, None) if ends.content_types else None,
            ends.session_ids,
        )
        return [
            ReturnedLeases(lane, session, None if places is None else [place - 1 for place in places])
            for lane, session, places in rows
        ]

    async def classify(self, names: Sequence[Named]) -> list[Unmatched]:
        """What became of reports that matched no lease, one for each."""
        task_ids, tokens, sessions = zip(*names, strict=True)
        rows = await self._database.fetch(
            _SQL["classify_reports"], task_ids, tokens, sessions, min(task_ids), max(task_ids)
        )
        await self._database.confirm()
        return [Unmatched(row["recorded"], row["held"]) for row in rows]

    async def overdue(
        self, sessions: Sequence[SessionId], limit: int, mark: datetime = EVER
    ) -> tuple[list[Overdue], datetime]:
        """Leases of some sessions whose worker did not obey their timeout, or a cancel, from a time of the
        database on; and its time now."""
        first, *rows = await self._database.fetch(
            _SQL["overdue"], list(sessions), limit, self._slack_ms, mark
        )
        found = [Overdue(LeaseRef(TaskId(str(row[1])), row[2]), row[3], row[4], row[5]) for row in rows]
        return found, first[0]
