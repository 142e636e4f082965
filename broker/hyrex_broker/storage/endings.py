"""Ends sessions and gives back their leases, in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hyrex_broker.domain.model import LaneId, LeaseRef, Outcome, RunEnd, SessionId, TaskId, Token
from hyrex_broker.storage.pool import Transaction
from hyrex_broker.storage.report import RemovedLease, end_runs
from hyrex_broker.storage.statements import load

_END: Final = load("sessions")["end_session"]
LEASES_OF: Final = load("report")["leases_of"]
_CHUNK: Final = 1000


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A lease as the database has it."""

    lease: LeaseRef
    session_id: SessionId
    sequence: int
    lane: LaneId
    cancel_reason: str | None


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that has ended, with the leases it gave back."""

    session_id: SessionId
    ended: list[RemovedLease]
    task_ids: list[TaskId]


@dataclass(frozen=True, slots=True)
class SessionEndReason:
    """How a session ends. Leases beyond `received_through` (None: unknown) may never have reached it:
    they return at no cost."""

    outcome: Outcome
    reason: str
    received_through: int | None


async def end_sessions(
    transaction: Transaction, endings: Mapping[SessionId, SessionEndReason]
) -> list[EndedSession]:
    """End locked sessions. Their leases are removed in task id order, as by every statement that locks
    leases."""
    reasons = [ending.reason for ending in endings.values()]
    await transaction.execute(_END, list(endings), reasons)
    ended = {session_id: EndedSession(session_id, [], []) for session_id in endings}
    leases = [held_lease(row) for row in await transaction.fetch(LEASES_OF, list(endings))]
    for held in leases:
        ended[held.session_id].task_ids.append(held.lease.task_id)
    ends = [_end_of(held, endings[held.session_id]) for held in leases]
    for start in range(0, len(ends), _CHUNK):
        for each in await end_runs(transaction, ends[start : start + _CHUNK]):
            ended[each.session_id].ended.append(each)
    return list(ended.values())


def _end_of(held: StoredLease, ending: SessionEndReason) -> RunEnd:
    if ending.received_through is not None and held.sequence > ending.received_through:
        # The run may have begun since the last heartbeat. It is recorded, so that no two runs have one
        # number.
        unknown = "its session expired before its receipt"
        return _bound(held, Outcome.RELEASED, 0, unknown)
    elapsed_us = None
    if ending.outcome is Outcome.LOST:
        # It is unknown which run brought the host down: none counts as the cause unless it was the only one.
        elapsed_us = 0
    return _bound(held, ending.outcome, elapsed_us, ending.reason)


def _bound(held: StoredLease, outcome: Outcome, elapsed_us: int | None, reason: str) -> RunEnd:
    lease = held.lease
    return RunEnd(lease.task_id, lease.token, held.session_id, outcome, elapsed_us, reason=reason)


def held_lease(row: Any) -> StoredLease:
    """A row of `leases_of`."""
    return StoredLease(
        LeaseRef(TaskId(str(row["task_id"])), Token(row["token"])),
        row["session_id"], row["sequence"], row["lane"],
        (row["cancel_reason"] or "") if row["to_cancel"] else None,
    )  # fmt: skip
