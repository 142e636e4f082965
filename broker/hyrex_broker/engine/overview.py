"""One computation for all who look: a frame about each second while somebody looks, and nothing otherwise."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Generic, TypeVar

from hyrex_broker.domain.errors import StorageUnavailable, TooManyItems

log = logging.getLogger(__name__)

Frame = TypeVar("Frame")
EVERY_S: Final = 1.0
_SHARE: Final = 20
"""A frame that took long to compute is followed by a pause of so many times that: looking costs the database
at most a twentieth of one of its processes."""
MOST_LOOKING: Final = 200


class Overview(Generic[Frame]):
    """Frames that `compute` makes, for any number of streams; a slow one skips frames, and delays nobody."""

    def __init__(self, compute: Callable[[], Awaitable[Frame]]) -> None:
        self._compute = compute
        self._looking = 0
        self._somebody = asyncio.Event()
        self._next: asyncio.Future[Frame] | None = None
        self._last: tuple[float, Frame] | None = None

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """The frame of now, if one is fresh, then each new one. Raises TooManyItems."""
        if self._looking >= MOST_LOOKING:
            raise TooManyItems(self._looking + 1, MOST_LOOKING)
        self._looking += 1
        self._somebody.set()
        try:
            if self._last is not None and time.monotonic() - self._last[0] < EVERY_S:
                yield self._last[1]
            while True:
                if self._next is None:
                    self._next = asyncio.get_running_loop().create_future()
                yield await asyncio.shield(self._next)
        finally:
            self._looking -= 1
            if not self._looking:
                self._somebody.clear()

    async def run(self) -> None:
        """Compute frames while somebody looks, until cancelled."""
        while True:
            await self._somebody.wait()
            began = time.monotonic()
            try:
                frame = await self._compute()
            except StorageUnavailable as error:
                # Whoever looks sees that the last frame grows old.
                log.debug("no frame of the cluster", extra={"error": str(error)})
            else:
                self._last = time.monotonic(), frame
                if self._next is not None:
                    self._next.set_result(frame)
                    self._next = None
            took = time.monotonic() - began
            await asyncio.sleep(max(EVERY_S - took, took * _SHARE))
