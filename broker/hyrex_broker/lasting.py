"""What a broker keeps when it begins anew (see storage/timeline.py)."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.timeline import NewestTimeline

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_MOST_DOUBLED: Final = 10
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
    longest = _FIRST_PAUSE_S * 2.0 ** min(times - 1, _MOST_DOUBLED)
    return min(_LONGEST_PAUSE_S, longest) * random.uniform(0.5, 1.0)
