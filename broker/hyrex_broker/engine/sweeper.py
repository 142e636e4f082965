"""The sweeper: sessions whose time is over end, and what they held is run again."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from hyrex_broker.domain.errors import SessionEnded, StorageUnavailable
from hyrex_broker.domain.model import SessionId
from hyrex_broker.engine.reports import Reports
from hyrex_broker.engine.sessions import Sessions
from hyrex_broker.storage.pool import StatementRefused
from hyrex_broker.storage.sessions import EndedSession, SessionStore

log = logging.getLogger(__name__)

_MOST: Final = 50
_JUMP_S: Final = 3.0
_PAUSE_S: Final = 1.0


class Sweeper:
    """Ends expired sessions of every broker, dead ones' too.

    After an outage of the database, or of all brokers, nobody could renew, so "expired" proves nothing
    at first: the sweeper then waits until it has itself watched for a full lease (rule 8). The same holds
    after a jump of the database's clock, and after a pause of this process: what it owns could not be
    renewed meanwhile.
    """

    def __init__(
        self, store: SessionStore, sessions: Sessions, reports: Reports, lease_duration: timedelta
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._reports = reports
        self._lease_s = lease_duration.total_seconds()
        self._interval_s = min(1.0, self._lease_s / 15)
        self._offset_s: float | None = None
        self.distrust()

    def distrust(self) -> None:
        """Sessions may have expired for want of us: watch for a full lease before the next sweep."""
        self._quiet_until = time.monotonic() + self._lease_s

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            asleep = time.monotonic()
            await asyncio.sleep(self._interval_s)
            slept_s = time.monotonic() - asleep
            if slept_s > self._interval_s + _PAUSE_S:
                log.warning("this process was paused", extra={"seconds": round(slept_s, 1)})
                self.distrust()
            try:
                await self._look()
            except StorageUnavailable:
                self.distrust()

    async def _look(self) -> None:
        expired, now_s = await self._store.expired(_MOST)
        if self._has_jumped(now_s):
            self.distrust()
        if time.monotonic() >= self._quiet_until:
            await self._end_all(expired)

    def _has_jumped(self, now_s: float) -> bool:
        """Whether the database's clock went otherwise than this machine's since the last time."""
        before, self._offset_s = self._offset_s, now_s - time.monotonic()
        jump_s = 0.0 if before is None else self._offset_s - before
        if abs(jump_s) > _JUMP_S:
            log.warning("the database's clock jumped", extra={"seconds": round(jump_s, 1)})
        return abs(jump_s) > _JUMP_S

    async def sweep(self) -> list[SessionId]:
        """End what has expired, one by one; return the sessions ended."""
        return await self._end_all((await self._store.expired(_MOST))[0])

    async def _end_all(self, expired: Sequence[SessionId]) -> list[SessionId]:
        ended = []
        for session_id in expired:
            each = await self._end(session_id)
            if each is not None:
                self._follow(each)
                ended.append(session_id)
        return ended

    async def _end(self, session_id: SessionId) -> EndedSession | None:
        """None where it is not to be ended, or cannot be just now: the next sweep looks again."""
        try:
            return await self._store.sweep(session_id)
        except StatementRefused as error:
            log.error("a session cannot be ended", extra={"session": session_id, "error": str(error)})
        except StorageUnavailable as error:
            if not error.conflict:
                raise
            # The database is there, and so were the others' renewals.
            log.warning("a sweep met a conflict", extra={"session": session_id, "error": str(error)})
        return None

    def _follow(self, ended: EndedSession) -> None:
        log.warning("session expired", extra={"session": ended.session_id, "leases": len(ended.ended)})
        self._reports.follow(ended.ended, ended.task_ids)
        session = self._sessions.by_id.get(ended.session_id)
        if session is not None:
            self._sessions.leave(session)
            session.link.end(SessionEnded(f"session {ended.session_id} has expired; begin a new one"))
