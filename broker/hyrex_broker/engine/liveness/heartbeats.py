"""Heartbeats: at each tick, renews all sessions of this broker in one statement, then acknowledges."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hyrex_broker.domain import ids
from hyrex_broker.domain.errors import BrokerError, SessionEnded, SessionTakenOver, StorageUnavailable
from hyrex_broker.domain.model import (
    BrokerId,
    CancelOrder,
    LeaseRef,
    Outcome,
    RunEnd,
    SessionId,
    TaskId,
    Token,
)
from hyrex_broker.engine.reports import RunReports
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import ServedSession, orphaned, slots_in_all
from hyrex_broker.storage.sessions import Beat, Ownership, SessionStore

log = logging.getLogger(__name__)

MOST_VOID: Final = 1000
"""How many void leases one acknowledgement names; the next ones name the rest."""


@dataclass(slots=True)
class Pending:
    """The newest heartbeat of a session, not yet acknowledged."""

    session: ServedSession
    sequence: int
    revoked: list[Token]


def _sorted_out(held: Iterable[Token], session: ServedSession) -> tuple[set[Token], list[Token]]:
    """Split held tokens into the session's leases and (some of) those that are not."""
    known: set[Token] = set()
    unknown: list[Token] = []
    for token in held:
        if token in session.leases:
            known.add(token)
        elif len(unknown) < MOST_VOID:
            unknown.append(token)
    return known, unknown


class Heartbeats:
    """Collects heartbeats and renews their sessions together: the number of statements does not
    grow with the number of workers."""

    def __init__(
        self,
        store: SessionStore,
        sessions: Sessions,
        reports: RunReports,
        broker: BrokerId,
        lease_duration: timedelta,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._reports = reports
        self._broker = broker
        self._lease_s = lease_duration.total_seconds()
        self._tick_s = self._lease_s / 30
        self._pending: dict[SessionId, Pending] = {}
        self._arrived = asyncio.Event()
        self._to_cancel: set[SessionId] = set()
        self._cancelled = asyncio.Event()

    def beat(
        self, session: ServedSession, sequence: int, held: Iterable[Token], received_through: int
    ) -> list[RunEnd]:
        """Note a heartbeat. Returns orphans: received leases that the worker does not hold any more.

        Call it in the order of the stream: a lease whose report was acknowledged before is no longer in
        `session.leases`. A late heartbeat of an old stream is ignored, so that it does not replace one of the
        new stream.
        """
        if self._sessions.by_id.get(session.session_id) is not session:
            return []
        received_through = min(received_through, session.sequence)
        session.received_through = max(session.received_through, received_through)
        tokens, unknown = _sorted_out(held, session)
        self._pending[session.session_id] = Pending(session, sequence, unknown)
        self._arrived.set()
        orphans = [
            orphaned(ids.task_id(task_id), token, session.session_id)
            for token, (task_id, assigned, _) in session.leases.items()
            if assigned <= received_through and token not in tokens and token not in session.orphans
        ]
        session.orphans.update(end.token for end in orphans)
        return orphans

    def silent(self, session: ServedSession, held: Iterable[Token]) -> list[RunEnd]:
        """The runs to take back from a worker that sends heartbeats but reads nothing: those it never read.

        Call it after each heartbeat. Such a worker has read no acknowledgement for a whole lease duration, so
        it would not trust these leases even if it read them now (rule 10): they may run elsewhere at once.
        """
        if session.received_through >= session.sequence:
            session.reading.mark = None  # as nearly always
            return []
        tokens, _ = _sorted_out(held, session)
        unread = {
            token: (task_id, assigned)
            for token, (task_id, assigned, _) in session.leases.items()
            if assigned > session.received_through and token not in tokens
        }
        sent = [assigned for _, assigned in unread.values() if assigned <= session.receipt]
        moves = bool(sent) or session.link.backlogged
        mark = (min(sent, default=0), session.link.runs_written) if moves else None
        if not session.reading.is_silent(mark, time.monotonic(), self._lease_s):
            return []
        return [
            RunEnd(
                ids.task_id(task_id), token, session.session_id, Outcome.RELEASED,
                reason="its worker did not read it",
            )
            for token, (task_id, _) in unread.items()
        ]  # fmt: skip

    def look_for_cancels(self, sessions: Iterable[SessionId]) -> None:
        """Push cancels that another broker has stored for sessions that are served here."""
        self._to_cancel.update(session for session in sessions if session in self._sessions.by_id)
        if self._to_cancel:
            self._cancelled.set()

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        return {"unacknowledged": len(self._pending), "sessions to look at for cancels": len(self._to_cancel)}

    async def run(self) -> None:
        """Renew and push cancels until stopped."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_at_each_tick())
            group.create_task(self._push_cancels())

    async def _push_cancels(self) -> None:
        while True:
            await self._cancelled.wait()
            self._cancelled.clear()
            sessions, self._to_cancel = sorted(self._to_cancel), set()
            try:
                self._sessions.push_cancels(await self._store.cancels(sessions))
            except StorageUnavailable:
                log.debug("cancels will come with the next heartbeat")

    async def _renew_at_each_tick(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            pending, self._pending = self._pending, {}
            try:
                await self._renew(pending)
            except StorageUnavailable as error:
                log.debug("renewal waits for the database", extra={"error": str(error)})
                self._pending = pending | self._pending
                self._arrived.set()
            await asyncio.sleep(self._tick_s)

    async def _renew(self, pending: dict[SessionId, Pending]) -> None:
        current = {
            session_id: each
            for session_id, each in pending.items()
            if self._sessions.by_id.get(session_id) is each.session
        }
        if not current:
            return
        beats = [
            Beat(
                each.session.session_id,
                each.session.generation,
                each.session.received_through,
                sum(each.session.capacity.values()),
                each.session.self_draining,
                slots_in_all(each.session.capacity, each.session.slots),
            )
            for each in current.values()
        ]
        renewed = await self._store.renew(self._broker, beats)
        alive = {renewal.session_id for renewal in renewed}
        cancels = await self._store.cancels(sorted(alive))
        self._acknowledge(current, alive, cancels)
        for renewal in renewed:
            if renewal.draining:
                self._sessions.drain(renewal.session_id)
        missing = [beat for beat in beats if beat.session_id not in alive]
        if missing:
            await self._explain(missing, current)

    def _acknowledge(
        self, current: dict[SessionId, Pending], alive: set[SessionId], cancels: Sequence[CancelOrder]
    ) -> None:
        by_session: dict[SessionId, list[CancelOrder]] = {}
        for cancel in cancels:
            by_session.setdefault(cancel.session_id, []).append(cancel)
        for session_id in alive:
            each = current[session_id]
            # A lease that was unknown when the heartbeat came may have been adopted since.
            revoked = [
                LeaseRef(TaskId(""), token) for token in each.revoked if token not in each.session.leases
            ]
            each.session.link.push_heartbeat_ack(each.sequence, revoked, by_session.get(session_id, []))

    async def _explain(self, missing: Sequence[Beat], current: dict[SessionId, Pending]) -> None:
        """End the streams of sessions that have ended or were taken; renew those again that were locked."""
        for state in await self._store.ownership(self._broker, missing):
            each = current[state.session_id]
            if not state.taken and not state.ended:
                self._pending.setdefault(state.session_id, each)
                self._arrived.set()
                continue
            if each.session.ending:
                continue  # Its goodbye was stored between the heartbeat and its renewal: no error.
            self._sessions.leave(each.session)
            each.session.link.end(_why(state))


def _why(state: Ownership) -> BrokerError:
    """The error that ends the stream of a session that was taken or has ended."""
    if state.ended:
        return SessionEnded(f"session {state.session_id} has expired or was ended; begin a new one")
    return SessionTakenOver(f"session {state.session_id} is served by another stream")
