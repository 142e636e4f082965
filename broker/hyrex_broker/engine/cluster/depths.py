"""Depths: every ten seconds one broker of those that show metrics reads how much waits in each queue."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.depths import DepthStore, WaitingTasks
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

INTERVAL_S: Final = 10.0


class Depths:
    """The last reading, while this broker is the one that reads."""

    def __init__(self, store: DepthStore, brokers: BrokerStore, broker: BrokerId) -> None:
        self._store = store
        self._brokers = brokers
        self._broker = broker
        self.latest: Mapping[str, WaitingTasks] | None = None
        """By queue; None where another broker reads, or the database gives no answer: no number is better
        than an old one."""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Read once, if this broker is the one that reads."""
        try:
            elected = await self._brokers.reads_depths(self._broker)
            self.latest = await self._store.read() if elected else None
        except (StorageUnavailable, StatementRefused) as error:
            self.latest = None
            log.debug("depths of queues could not be read", extra={"error": str(error)})
