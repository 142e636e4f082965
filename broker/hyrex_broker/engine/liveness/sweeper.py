"""The sweeper ends expired sessions, so that their tasks run again."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from hyrex_broker.domain.errors import SessionEnded, StorageUnavailable
from hyrex_broker.domain.model import SessionId
from hyrex_broker.engine.clock import DatabaseClock
from hyrex_broker.engine.reports import RunReports
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.storage.endings import EndedSession
from hyrex_broker.storage.sessions import SessionStore
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_MOST: Final = 2000
_TOGETHER: Final = 50
"""How many sessions one transaction ends; few, since sessions with many leases might exceed its timeouts."""
_PAUSE_S: Final = 1.0


class Sweeper:
    """Ends expired sessions of all brokers, also of dead ones.

    During an outage of the database, or of all brokers, no session could be renewed, so an expired session
    need not have lost its worker. The sweeper then waits for a full lease duration before it ends any (rule
    8). The same holds after a jump of the database's clock, and after a pause of this process, during which
    it could not renew its own sessions.
    """

    def __init__(
        self,
        store: SessionStore,
        sessions: Sessions,
        reports: RunReports,
        clock: DatabaseClock,
        lease_duration: timedelta,
    ) -> None:
        self._store = store
        self._clock = clock
        self._jumps_known, self._jumped_s = 0, 0.0
        self._sessions = sessions
        self._reports = reports
        self._lease_s = lease_duration.total_seconds()
        self._interval_s = min(1.0, self._lease_s / 15)
        self.distrust()

    def distrust(self) -> None:
        """Wait for a full lease duration before the next sweep, since sessions could not be renewed."""
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
        self._clock.observe(now_s)
        if self._clock.jump_count != self._jumps_known:
            self._jumps_known = self._clock.jump_count
            self.distrust()
            await self._follow_back()
        if time.monotonic() >= self._quiet_until:
            await self._end_all(expired)

    async def _follow_back(self) -> None:
        """Move expiries back with a clock that was set back; else a dead worker's runs would wait as long."""
        back_s = self._jumped_s - self._clock.jumped_s
        if back_s > 2 * self._lease_s:
            await self._store.set_back(timedelta(seconds=back_s))
        self._jumped_s = self._clock.jumped_s

    async def sweep(self) -> list[SessionId]:
        """End expired sessions, those with leases first; return the sessions ended."""
        return await self._end_all((await self._store.expired(_MOST))[0])

    async def _end_all(self, expired: Sequence[SessionId]) -> list[SessionId]:
        ended: list[SessionId] = []
        for start in range(0, len(expired), _TOGETHER):
            each_ended = await self._end(expired[start : start + _TOGETHER])
            _tell(each_ended)
            for each in each_ended:
                self._follow(each)
                ended.append(each.session_id)
        return ended

    async def _end(self, sessions: Sequence[SessionId]) -> list[EndedSession]:
        """End sessions. One missing from the result need not be ended, or cannot be now: a later sweep
        retries."""
        try:
            return await self._store.sweep_all(sessions)
        except StatementRefused:
            pass
        except StorageUnavailable as error:
            if not (error.conflict or error.timed_out):
                raise
        return [each for session_id in sessions if (each := await self._end_alone(session_id)) is not None]

    async def _end_alone(self, session_id: SessionId) -> EndedSession | None:
        """End one session. If that fails, log it, so that the others are ended nevertheless."""
        try:
            return await self._store.sweep(session_id)
        except StatementRefused as error:
            log.error("a session cannot be ended", extra={"session": session_id, "error": str(error)})
        except StorageUnavailable as error:
            if not error.conflict:
                raise
            # The database is there, and so were the others' renewals.
            log.warning(
                "sweeper met a conflict; it tries again", extra={"session": session_id, "error": str(error)}
            )
        return None

    def _follow(self, ended: EndedSession) -> None:
        self._reports.follow(ended.ended, ended.task_ids)
        session = self._sessions.by_id.get(ended.session_id)
        if session is not None:
            self._sessions.leave(session)
            session.link.end(SessionEnded(f"session {ended.session_id} has expired; begin a new one"))


def _tell(ended: Sequence[EndedSession]) -> None:
    """Log each session that held leases, and one line for all others: anybody can open and drop sessions."""
    for each in ended:
        if each.ended:
            log.warning("session expired", extra={"session": each.session_id, "leases": len(each.ended)})
    empty = sum(not each.ended for each in ended)
    if empty:
        log.warning("session expired without leases", extra={"sessions": empty})
