"""Presence: this broker tells the others that it lives, and learns who else does."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.engine.wakeups import Wakeups
from hyrex_broker.storage.brokers import BrokerStore

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0


class Presence:
    """One row, renewed every second."""

    def __init__(
        self, store: BrokerStore, broker: BrokerId, wakeups: Wakeups, watching: Callable[[], bool]
    ) -> None:
        self._store = store
        self._broker = broker
        self._wakeups = wakeups
        self._watching = watching
        self.on_reachable: Callable[[bool], None] = lambda reachable: None
        """Told after each round whether the database answered."""
        self._away = False

    async def run(self) -> None:
        """Renew until cancelled; then leave."""
        try:
            while True:
                await self._renew()
                await asyncio.sleep(_INTERVAL_S)
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def _renew(self) -> None:
        try:
            others = await self._store.seen(self._broker, watching=self._watching())
        except StorageUnavailable as error:
            if not self._away:
                log.warning("the database is away; waiting for it", extra={"error": str(error)})
            self._away = True
            self.on_reachable(False)
            return
        if self._away:
            log.warning("the database is back")
        self._away = False
        self._wakeups.others = others.count > 0
        self._wakeups.others_watch = others.watching
        self.on_reachable(True)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self._store.unregister(self._broker)
        except (StorageUnavailable, TimeoutError):
            log.debug("left without a word")
