"""Progress: stores what runs say of how far they are, at most once a second, and tells whoever watches them.

Nothing here runs, and no statement is made, while no run says anything.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import TaskId, Token
from hyrex_broker.domain.progress import Told
from hyrex_broker.storage.progress import ProgressStore
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_PAUSE_S: Final = 1.0
_TIDY_AFTER_S: Final = 60.0
_AT_ONCE: Final = 1000


class RunsProgress:
    """The newest word of each run, until it is stored."""

    def __init__(self, store: ProgressStore) -> None:
        self._store = store
        self._newest: dict[Token, Told] = {}
        self._arrived = asyncio.Event()
        self._tidy_at = 0.0
        self.on_change: Callable[[Iterable[TaskId]], None] = lambda task_ids: None

    def told(self, words: Iterable[Told]) -> None:
        """Note what runs said; of each only the newest is kept."""
        for word in words:
            self._newest[word.token] = word
        if self._newest:
            self._arrived.set()

    async def run(self) -> None:
        """Store until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            await self._store_all()
            await asyncio.sleep(_PAUSE_S)

    async def _store_all(self) -> None:
        while self._newest:
            words = list(islice(self._newest.values(), _AT_ONCE))
            for word in words:
                del self._newest[word.token]
            # One task may have two leases after one another: the later word stands.
            words = list({word.task_id: word for word in words}.values())
            try:
                await self._store.tell(words)
            except (StorageUnavailable, StatementRefused) as error:
                # The next word of each run is soon to come; this one is old by then.
                log.debug("progress could not be stored", extra={"error": str(error)})
                return
            self.on_change([word.task_id for word in words])
        await self._tidy()

    async def _tidy(self) -> None:
        if time.monotonic() < self._tidy_at:
            return
        self._tidy_at = time.monotonic() + _TIDY_AFTER_S
        try:
            await self._store.tidy()
        except (StorageUnavailable, StatementRefused) as error:
            log.debug("old progress could not be removed", extra={"error": str(error)})
