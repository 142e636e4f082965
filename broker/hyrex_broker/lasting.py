"""What a broker keeps when it begins anew, because Postgres has a new primary."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from hyrex_broker.storage.timeline import NewestTimeline

_AGAIN_AFTER_S: Final = 1.0


@dataclass(slots=True)
class Enduring:
    """What a broker keeps when it begins anew on another timeline."""

    timeline: NewestTimeline = field(default_factory=NewestTimeline)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    """Where it listens; known once it does."""
    synchronous: bool | None = None
    """See `Availability`."""


async def pause(stop: asyncio.Event) -> None:
    """Wait a second, or until it is time to stop."""
    try:
        async with asyncio.timeout(_AGAIN_AFTER_S):
            await stop.wait()
    except TimeoutError:
        pass
