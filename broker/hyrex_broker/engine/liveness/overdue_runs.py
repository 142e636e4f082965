"""Overdue runs: the broker ends runs whose worker did not stop them at their timeout or after a cancel.

Most looks skip what became overdue before the last look, like `ready` below its marks (see `looks`). Now and
then all leases are read, since a session may have been taken over with overdue runs.
"""

import asyncio
import logging
from datetime import datetime
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import Outcome, RunEnd
from hyrex_broker.engine.clock import DatabaseClock
from hyrex_broker.engine.looks import Look
from hyrex_broker.engine.reports import RunReports
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.storage.report import EVER, Overdue, ReportStore
from hyrex_broker.storage.settings import LONGEST_STATEMENT

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
_LOOK_AT_ALL_S: Final = 5.0
_MOST: Final = 500
_REASON: Final = "the worker did not stop the run in time; the broker ended it"


class OverdueRuns:
    """Ends overdue leases of this broker's sessions as timed out (which a cancel request turns into
    cancelled); the worker hears with its next heartbeat that they are revoked."""

    def __init__(
        self, store: ReportStore, sessions: Sessions, reports: RunReports, clock: DatabaseClock
    ) -> None:
        self._store = store
        self._clock = clock
        self._sessions = sessions
        self._reports = reports
        self._mark = EVER

    async def run(self) -> None:
        """Look every second until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(Look(_INTERVAL_S, self._end_overdue)))
            group.create_task(self._every(Look(_LOOK_AT_ALL_S, self._end_all_overdue)))

    async def _every(self, look: Look) -> None:
        while True:
            await asyncio.sleep(look.interval_s)
            if not self._sessions.by_id:
                continue
            try:
                await look.again()
            except StorageUnavailable:
                continue

    async def _end_overdue(self) -> None:
        found, now = await self._store.overdue(sorted(self._sessions.by_id), _MOST, self._mark)
        overdue = self._really(found, now)
        if len(overdue) == len(found) < _MOST:
            # A lease cannot have become overdue before the statement that made it began.
            self._mark = max(self._mark, now - LONGEST_STATEMENT)
        await self._end(overdue)

    async def _end_all_overdue(self) -> None:
        found, now = await self._store.overdue(sorted(self._sessions.by_id), _MOST)
        await self._end(self._really(found, now))

    def _really(self, found: list[Overdue], now: datetime) -> list[Overdue]:
        """Those whose time has really passed, without jumps of the database's clock."""
        now_s = now.timestamp()
        self._clock.observe(now_s)
        return [each for each in found if self._clock.passed_s(each.since_s, now_s) >= each.allowed_s]

    async def _end(self, overdue: list[Overdue]) -> None:
        if not overdue:
            return
        log.warning("runs overdue", extra={"count": len(overdue)})
        await self._reports.report(
            [
                RunEnd(
                    each.lease.task_id,
                    each.lease.token,
                    each.session_id,
                    Outcome.TIMED_OUT,
                    reason=_REASON,
                )
                for each in overdue
            ]
        )
