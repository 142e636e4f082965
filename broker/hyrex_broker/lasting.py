"""What a broker keeps when it begins anew (see storage/timeline.py)."""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from hyrex_broker.domain.counters import Acknowledged
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.domain.pauses import growing_s
from hyrex_broker.engine.cluster.replicated import Renewals
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.timeline import NewestTimeline

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_LASTED_S: Final = 30.0
_LOOK_AROUND_S: Final = 1.0


@dataclass(slots=True)
class Enduring:
    """What a broker keeps when it begins anew."""

    timeline: NewestTimeline = field(default_factory=NewestTimeline)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    """Where it listens; known once it does."""
    synchronous: bool | None = None
    """See `Availability`."""
    unreplicated: Acknowledged = field(default_factory=Acknowledged)
    """What failovers may have lost of what this broker acknowledged, at most."""
    _left: "tuple[BrokerId, Renewals, Acknowledged] | None" = None
    """What was acknowledged before it begins anew."""
    _times: int = 0
    """How often it began anew without a longer time between."""
    _began: float = 0.0

    async def look_around(self, database: Database) -> None:
        """At the start ask all servers of the URL for their timeline: the first that answers may be an old
        primary that came back. Not longer than a moment for one that is silent."""
        if self.timeline.newest or len(database.connector.servers) == 1:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AROUND_S):
                await database.look()
        self.timeline.begin_anew()  # nothing was read yet

    def leave(self, database: Database, broker: BrokerId, renewals: Renewals) -> None:
        """Note what was acknowledged on a timeline that is over."""
        self.synchronous = database.availability.synchronous
        self._left = (broker, renewals, database.counters.acknowledged())

    async def tell_lost(self, brokers: BrokerStore) -> None:
        """Say how much a failover may have lost, where commits waited for no standby. Raises
        StorageUnavailable."""
        if self._left is None or self.synchronous:
            return
        broker, renewals, acknowledged = self._left
        lost = renewals.unreplicated(await brokers.seen_at(broker), acknowledged)
        self._left = None
        self.unreplicated += lost
        if lost.sends or lost.ends:
            log.warning(
                "replication was not synchronous: what was acknowledged last may be lost, at most",
                extra={"sends": lost.sends, "ends": lost.ends},
            )

    async def may_begin_anew(self) -> bool:
        """Return True when it may begin anew: at once the first time, then after a pause that grows, until
        one beginning has lasted. False if it is time to stop."""
        if time.monotonic() - self._began > _LASTED_S:
            self._times = 0
        try:
            async with asyncio.timeout(pause_s(self._times)):
                await self.stop.wait()
        except TimeoutError:
            self._times += 1
            self._began = time.monotonic()
        return not self.stop.is_set()


def pause_s(times: int) -> float:
    """How long to wait before the next, after so many beginnings that did not last."""
    if not times:
        return 0.0
    return growing_s(_FIRST_PAUSE_S, times - 1, _LONGEST_PAUSE_S)
