"""Worker sessions: one row each, owned by one broker at a time, alive until database time says otherwise."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from hyrex_broker.domain.errors import SessionEnded, SessionSecretInvalid
from hyrex_broker.domain.model import (
    BrokerId,
    CancelOrder,
    LaneId,
    LeaseRef,
    Outcome,
    RunEnd,
    SessionId,
    TaskId,
    Token,
)
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.report import Ended, end_runs
from hyrex_broker.storage.statements import load

_SQL: Final = load("sessions")
_LEASES_OF: Final = load("report")["leases_of"]
_CHUNK: Final = 1000
_MOST_FOLLOWED: Final = 8
"""Sessions of one worker that expire one after the other, each before the sweeper came to the one before."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a worker says of itself."""

    worker_name: str
    host: str
    pid: int
    sdk: str
    queue_patterns: list[str]
    task_names: list[str]
    capacity: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A session owned by this broker."""

    session_id: SessionId
    generation: int


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease as the database has it."""

    lease: LeaseRef
    session_id: SessionId
    sequence: int
    lane: LaneId
    cancel_reason: str | None


@dataclass(frozen=True, slots=True)
class Heritage:
    """What the session of a worker has from earlier ones of it, whose time was over."""

    follows: list[SessionId]
    """The earlier sessions, the last first."""
    leases: list[HeldLease]
    """What stands of theirs: its reports are still accepted."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A resumed session with every lease it has."""

    generation: int
    leases: list[HeldLease]
    draining: bool
    """An operator wants its worker to leave."""
    self_draining: bool
    """Its worker wants no more work."""
    inherited: list[HeldLease] = field(default_factory=list)
    """What stands of the leases of sessions that it follows."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat to acknowledge."""

    session_id: SessionId
    generation: int
    received_through: int
    capacity: int = 0
    """For people."""
    self_draining: bool = False
    """Its worker wants no more work."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A renewed session; `draining`: an operator wants its worker to leave."""

    session_id: SessionId
    draining: bool


@dataclass(frozen=True, slots=True)
class Ownership:
    """Why a session was not renewed: `taken` by another stream, or `over`; neither: locked just now.

    Over and not `ended`: its time is over, but nobody has taken its leases back yet.
    """

    session_id: SessionId
    taken: bool
    over: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that has ended, with the leases it gave back."""

    session_id: SessionId
    ended: list[Ended]
    task_ids: list[TaskId]


class SessionStore:
    """Statements of `sessions.sql`."""

    def __init__(self, database: Database, lease_duration: timedelta) -> None:
        self._database = database
        self._lease_duration = lease_duration

    async def open(
        self, owner: BrokerId, secret: bytes, info: SessionInfo, follows: Sequence[SessionId] = ()
    ) -> Opened:
        """A new session; `follows`: those of the same worker whose time was over."""
        row = await self._database.fetchrow(
            _SQL["open_session"], owner, secret, info.worker_name, info.host, info.pid, info.sdk,
            info.queue_patterns, info.task_names, info.capacity, self._lease_duration, list(follows),
        )  # fmt: skip
        assert row is not None
        return Opened(row["id"], row["generation"])

    async def take_over(
        self, owner: BrokerId, session_id: SessionId, secret: bytes, info: SessionInfo, received_through: int
    ) -> TakenOver:
        """Make a session this broker's, raising its generation; then read its leases (rule 3).

        Raises SessionEnded, SessionSecretInvalid.
        """
        async with self._database.transaction() as transaction:
            await self._lock(transaction, session_id, secret)
            row = await transaction.fetchrow(
                _SQL["take_over"], session_id, owner, self._lease_duration, info.queue_patterns,
                info.task_names, info.capacity, info.sdk, received_through,
            )  # fmt: skip
            assert row is not None
            # A statement of its own: assigns that held the row's lock have committed by now.
            leases = await transaction.fetch(_LEASES_OF, [session_id, *row["follows"]])
            held = [_held(lease) for lease in leases]
            return TakenOver(
                row["generation"],
                [lease for lease in held if lease.session_id == session_id],
                row["draining"],
                row["self_draining"],
                [lease for lease in held if lease.session_id != session_id],
            )

    async def _lock(self, transaction: Transaction, session_id: SessionId, secret: bytes) -> None:
        row = await transaction.fetchrow(_SQL["lock_session"], session_id)
        if row is None:
            raise SessionEnded(f"session {session_id} has ended; begin a new one")
        _prove(session_id, row["secret"], secret)
        if row["over"]:
            raise SessionEnded(f"session {session_id} has ended; begin a new one")

    async def heritage(self, session_id: SessionId, secret: bytes) -> Heritage | None:
        """What a worker whose session is over takes along to a new one; None where nobody knows it any more.

        Raises SessionSecretInvalid.
        """
        row = await self._database.fetchrow(_SQL["succeeded"], session_id)
        if row is None:
            return None
        _prove(session_id, row["secret"], secret)
        follows = [session_id, *row["follows"]][:_MOST_FOLLOWED]
        return Heritage(follows, await self.leases(follows))

    async def leases(self, sessions: Sequence[SessionId]) -> list[HeldLease]:
        """The sessions' leases as stored."""
        return [_held(row) for row in await self._database.fetch(_LEASES_OF, list(sessions))]

    async def renew(self, owner: BrokerId, beats: Sequence[Beat]) -> list[Renewal]:
        """Prolong sessions in one statement; one missing from the result is read with `ownership`."""
        ordered = sorted(beats, key=lambda beat: beat.session_id)
        rows = await self._database.fetch(
            _SQL["renew"], [b.session_id for b in ordered], [b.generation for b in ordered],
            [b.received_through for b in ordered], owner, self._lease_duration, [b.capacity for b in ordered],
            [b.self_draining for b in ordered], vital=True,
        )  # fmt: skip
        return [Renewal(row["id"], row["draining"]) for row in rows]

    async def ownership(self, owner: BrokerId, beats: Sequence[Beat]) -> list[Ownership]:
        """Why sessions were not renewed."""
        rows = await self._database.fetch(
            _SQL["ownership"], [b.session_id for b in beats], [b.generation for b in beats], owner, vital=True
        )
        return [Ownership(row["id"], row["taken"], row["over"], row["ended"]) for row in rows]

    async def cancels(self, sessions: Sequence[SessionId]) -> list[CancelOrder]:
        """Cancel requests on the sessions' leases."""
        rows = await self._database.fetch(_SQL["cancels_of"], list(sessions), vital=True)
        return [
            CancelOrder(TaskId(str(r["task_id"])), r["token"], r["session_id"], r["cancel_reason"] or "")
            for r in rows
        ]

    async def expired(self, limit: int) -> tuple[list[SessionId], float]:
        """Sessions whose time is over and that nobody has ended; and the database's time (Unix seconds)."""
        ((sessions, now_s),) = await self._database.fetch(_SQL["expired"], limit, vital=True)
        return sessions, now_s

    async def sweep(self, session_id: SessionId) -> EndedSession | None:
        """End a session that is (still) expired; its leases return in the same transaction, but in a later
        statement than the lock (rule 8). None: it was renewed, has ended, or another sweeper ends it."""
        async with self._database.transaction() as transaction:
            row = await transaction.fetchrow(_SQL["lock_expired"], session_id)
            if row is None:
                return None
            reason = f"session of worker {row['worker_name']} expired"
            return await _end(transaction, session_id, Ending(Outcome.LOST, reason, row["received_through"]))

    async def end(self, session_id: SessionId, secret: bytes, outcome: Outcome, reason: str) -> EndedSession:
        """End a session at its worker's or launcher's word. Raises SessionEnded, SessionSecretInvalid."""
        async with self._database.transaction() as transaction:
            await self._lock(transaction, session_id, secret)
            return await _end(transaction, session_id, Ending(outcome, reason, None))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ends. Leases beyond `received_through` (None: unknown) may never have reached it:
    they return at no cost."""

    outcome: Outcome
    reason: str
    received_through: int | None


async def _end(transaction: Transaction, session_id: SessionId, ending: Ending) -> EndedSession:
    """End a locked session. Its leases are removed in task id order, as by every statement that locks
    leases."""
    await transaction.execute(_SQL["end_session"], session_id, ending.reason)
    leases = [_held(row) for row in await transaction.fetch(_LEASES_OF, [session_id])]
    ends = [_end_of(held, ending) for held in leases]
    ended: list[Ended] = []
    for start in range(0, len(ends), _CHUNK):
        ended += await end_runs(transaction, ends[start : start + _CHUNK])
    return EndedSession(session_id, ended, [held.lease.task_id for held in leases])


def _prove(session_id: SessionId, stored: bytes, secret: bytes) -> None:
    if not hmac.compare_digest(stored, secret):
        raise SessionSecretInvalid(f"the secret of session {session_id} is wrong")


def _end_of(held: HeldLease, ending: Ending) -> RunEnd:
    if ending.received_through is not None and held.sequence > ending.received_through:
        # It may have begun since the last heartbeat: recorded, so that no two executions share a number.
        unknown = "its session expired before its receipt"
        return _bound(held, Outcome.RELEASED, 0, unknown)
    elapsed_us = None
    if ending.outcome is Outcome.LOST:
        # Nobody knows which run took the host down: none is blamed unless it was the only one.
        elapsed_us = 0
    return _bound(held, ending.outcome, elapsed_us, ending.reason)


def _bound(held: HeldLease, outcome: Outcome, elapsed_us: int | None, reason: str) -> RunEnd:
    lease = held.lease
    return RunEnd(lease.task_id, lease.token, outcome, elapsed_us, reason=reason, session_id=held.session_id)


def _held(row: Any) -> HeldLease:
    return HeldLease(
        LeaseRef(TaskId(str(row["task_id"])), Token(row["token"])),
        row["session_id"], row["sequence"], row["lane"],
        (row["cancel_reason"] or "") if row["to_cancel"] else None,
    )  # fmt: skip
