"""Ends tasks that wait though their time to begin is over (rule 38).

Assigns and workers judge by themselves; this is for tasks that nobody takes: no worker serves them, they are
paused, or wait for a retry.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.engine.due_rows import DueRows, Head
from hyrex_broker.storage.expiry import ExpiryStore, Swept
from hyrex_broker.storage.marks import EXPIRY_HEAD, MarkStore
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_BATCH: Final = 1000
_HEAD: Final = Head("expiry", EXPIRY_HEAD, longest_wait_s=2.0)


class Expiry:
    """Sweeps what has expired; sleeps until something may have, at most two seconds."""

    def __init__(self, store: ExpiryStore, marks: MarkStore) -> None:
        self._store = store
        self._rows = DueRows(_HEAD, store, marks, self._sweep)
        self.on_change: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        self.on_ended: Callable[[LaneId, Iterable[TaskId]], None] = lambda lane, task_ids: None
        """Called with tasks of a lane that have ended, after the commit."""
        self.on_blocked: Callable[[Iterable[TaskId], Iterable[int]], None] = lambda task_ids, keys: None
        """Called with concurrency keys for which a task waits no longer."""

    async def run(self) -> None:
        """Sweep until cancelled."""
        await self._rows.run()

    async def _sweep(self, mark: datetime) -> datetime | None:
        most = _BATCH
        while True:
            try:
                return self._told(await self._store.sweep(mark, most))
            except StatementRefused as error:  # one of them is at fault (rule 6)
                if most == 1:
                    return await self._put_off(mark, error)
                most //= 2

    async def _put_off(self, mark: datetime, error: StatementRefused) -> datetime | None:
        found = await self._store.put_off(mark)
        if found is None:
            return None
        task_id, last_look = found
        told = {"task": task_id, "error": str(error)}
        log.error("the database refuses to end a task that has expired; it is tried each minute", extra=told)
        return last_look

    def _told(self, swept: Swept) -> datetime | None:
        """Tell who wants to know; up to when was looked."""
        if swept.ended:
            self.on_change(swept.ended)
        for lane, task_id in zip(swept.lanes, swept.ended, strict=True):
            self.on_ended(lane, [task_id])
        if swept.keys:
            self.on_blocked((), swept.keys)
        return swept.last_look
