"""Worker sessions: one row each, owned by one broker at a time, alive until they expire by database time."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hyrex_broker.domain.errors import SessionEnded, SessionSecretInvalid
from hyrex_broker.domain.model import (
    BrokerId,
    CancelOrder,
    Outcome,
    SessionId,
    TaskId,
)
from hyrex_broker.domain.rates import DeclaredLimit, rated
from hyrex_broker.storage.endings import (
    LEASES_OF,
    EndedSession,
    SessionEndReason,
    StoredLease,
    end_sessions,
    held_lease,
)
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load

_SQL: Final = load("sessions")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A worker's description of itself."""

    worker_name: str
    host: str
    pid: int
    sdk: str
    queue_patterns: list[str]
    task_names: list[str]
    capacity: int
    limits: tuple[DeclaredLimit, ...] = ()
    """Limits as its code has them, with those of queues that it declares without one."""
    slots: int = 0
    """How many leases it executes at once; 0 if it does not say. For people, as `capacity`."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session owned by this broker."""

    session_id: SessionId
    generation: int


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A resumed session with every lease it has."""

    generation: int
    leases: list[StoredLease]
    draining: bool
    """An operator wants its worker to leave."""
    self_draining: bool
    """Its worker wants no more work."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat to acknowledge."""

    session_id: SessionId
    generation: int
    received_through: int
    capacity: int = 0
    """For people, as `slots`."""
    self_draining: bool = False
    """Its worker wants no more work."""
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """A renewed session; `draining`: an operator wants its worker to leave."""

    session_id: SessionId
    draining: bool


@dataclass(frozen=True, slots=True)
class Ownership:
    """Why a session was not renewed: `taken` by another stream, or `ended`; neither: locked just now."""

    session_id: SessionId
    taken: bool
    ended: bool


class SessionStore:
    """Statements of `sessions.sql`."""

    def __init__(self, database: Database, lease_duration: timedelta) -> None:
        self._database = database
        self._lease_duration = lease_duration

    async def open(
        self, owner: BrokerId, secret: bytes, info: SessionInfo, origin: SessionId | None = None
    ) -> Opened:
        """Begin a session; `origin`: the first one of the same worker, whose later ones have ended."""
        row = await self._database.fetchrow(
            _SQL["open_session"], owner, secret, info.worker_name, info.host, info.pid, info.sdk,
            info.queue_patterns, info.task_names, info.capacity, self._lease_duration, origin,
            *([limit[place] for limit in info.limits] for place in range(3)), info.slots, *rated(info.limits),
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
                info.task_names, info.capacity, info.sdk, received_through, info.slots,
            )  # fmt: skip
            assert row is not None
            # A statement of its own: assigns that held the row's lock have committed by now.
            leases = await transaction.fetch(LEASES_OF, [session_id])
            held = [held_lease(lease) for lease in leases]
            return TakenOver(row["generation"], held, row["draining"], row["self_draining"])

    async def _lock(self, transaction: Transaction, session_id: SessionId, secret: bytes) -> None:
        row = await transaction.fetchrow(_SQL["lock_session"], session_id)
        if row is None:
            raise SessionEnded(f"session {session_id} has ended; begin a new one")
        _prove(session_id, row["secret"], secret)
        if row["ended"]:
            raise SessionEnded(f"session {session_id} has ended; begin a new one")

    async def origin(self, session_id: SessionId, secret: bytes) -> SessionId | None:
        """The first session of a worker whose session has ended; None if that is not stored any more.

        Raises SessionSecretInvalid.
        """
        row = await self._database.fetchrow(_SQL["origin_of"], session_id)
        if row is None:
            return None
        _prove(session_id, row["secret"], secret)
        return SessionId(row["origin"])

    async def leases(self, sessions: Sequence[SessionId]) -> list[StoredLease]:
        """The sessions' leases as stored."""
        return [held_lease(row) for row in await self._database.fetch(LEASES_OF, list(sessions))]

    async def renew(self, owner: BrokerId, beats: Sequence[Beat]) -> list[Renewal]:
        """Prolong sessions in one statement; one missing from the result is read with `ownership`."""
        ordered = sorted(beats, key=lambda beat: beat.session_id)
        rows = await self._database.fetch(
            _SQL["renew"], [b.session_id for b in ordered], [b.generation for b in ordered],
            [b.received_through for b in ordered], owner, self._lease_duration, [b.capacity for b in ordered],
            [b.self_draining for b in ordered], [b.slots for b in ordered], vital=True,
        )  # fmt: skip
        return [Renewal(row["id"], row["draining"]) for row in rows]

    async def ownership(self, owner: BrokerId, beats: Sequence[Beat]) -> list[Ownership]:
        """Why sessions were not renewed."""
        rows = await self._database.fetch(
            _SQL["ownership"], [b.session_id for b in beats], [b.generation for b in beats], owner, vital=True
        )
        return [Ownership(row["id"], row["taken"], row["ended"]) for row in rows]

    async def cancels(self, sessions: Sequence[SessionId]) -> list[CancelOrder]:
        """Cancel requests on the sessions' leases."""
        rows = await self._database.fetch(_SQL["cancels_of"], list(sessions), vital=True)
        return [
            CancelOrder(TaskId(str(r["task_id"])), r["token"], r["session_id"], r["cancel_reason"] or "")
            for r in rows
        ]

    async def expired(self, limit: int) -> tuple[list[SessionId], float]:
        """Expired sessions that are not ended yet, and the database's time (Unix seconds)."""
        ((sessions, now_s),) = await self._database.fetch(_SQL["expired"], limit, vital=True)
        return sessions, now_s

    async def set_back(self, by: timedelta) -> None:
        """After the database's clock went back: move expiries back too, for sessions that nobody renews."""
        await self._database.execute(_SQL["set_back"], by, self._lease_duration)

    async def sweep(self, session_id: SessionId) -> EndedSession | None:
        """`sweep_all` of one session."""
        return next(iter(await self.sweep_all([session_id])), None)

    async def sweep_all(self, sessions: Sequence[SessionId]) -> list[EndedSession]:
        """End those sessions that are (still) expired; their leases return in the same transaction, but in
        a later statement than the lock (rule 8). One that is missing was renewed, has ended, or another
        sweeper ends it."""
        async with self._database.transaction() as transaction:
            endings = {
                row["id"]: SessionEndReason(
                    Outcome.LOST, f"session of worker {row['worker_name']} expired", row["received_through"]
                )
                for row in await transaction.fetch(_SQL["lock_expired"], list(sessions))
            }
            return await end_sessions(transaction, endings) if endings else []

    async def end(self, session_id: SessionId, secret: bytes, outcome: Outcome, reason: str) -> EndedSession:
        """End a session because its worker or launcher asks for it. Raises SessionEnded,
        SessionSecretInvalid."""
        async with self._database.transaction() as transaction:
            await self._lock(transaction, session_id, secret)
            (ended,) = await end_sessions(transaction, {session_id: SessionEndReason(outcome, reason, None)})
            return ended


def _prove(session_id: SessionId, stored: bytes, secret: bytes) -> None:
    if not hmac.compare_digest(stored, secret):
        raise SessionSecretInvalid(f"the secret of session {session_id} is wrong")
