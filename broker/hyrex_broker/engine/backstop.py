"""The backstop: a run whose worker obeys neither its timeout nor a cancel is ended by the broker."""

import asyncio
import logging
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import Outcome, RunEnd
from hyrex_broker.engine.reports import Reports
from hyrex_broker.engine.sessions import Sessions
from hyrex_broker.storage.report import ReportStore

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
_MOST: Final = 500


class Backstop:
    """Ends overdue leases of this broker's sessions as timed out (which a cancel request turns into
    cancelled); the worker hears with its next heartbeat that they are revoked."""

    def __init__(self, store: ReportStore, sessions: Sessions, reports: Reports) -> None:
        self._store = store
        self._sessions = sessions
        self._reports = reports

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            if not self._sessions.by_id:
                continue
            try:
                await self._end_overdue()
            except StorageUnavailable:
                continue

    async def _end_overdue(self) -> None:
        overdue = await self._store.overdue(sorted(self._sessions.by_id), _MOST)
        if not overdue:
            return
        log.warning("runs overdue", extra={"count": len(overdue)})
        reason = "the worker did not stop the run in time; the broker ended it"
        await self._reports.report(
            [
                RunEnd(
                    each.lease.task_id,
                    each.lease.token,
                    Outcome.TIMED_OUT,
                    reason=reason,
                    session_id=each.session_id,
                )
                for each in overdue
            ]
        )
