"""One computation for all who look: a frame about each second while somebody looks, and nothing otherwise.

Where that frame has no room for the whole cluster, those who may see a part of it get frames of their part:
one for all who may see the same.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from hyrex_broker.domain.errors import QuotaExceeded, StorageUnavailable

log = logging.getLogger(__name__)

Frame = TypeVar("Frame")
Part = TypeVar("Part", bound=Hashable)
EVERY_S: Final = 1.0
_SHARE: Final = 20
"""A frame that took long to compute is followed by a pause of so many times that: looking costs the database
at most a twentieth of one of its processes."""
MOST_LOOKING: Final = 200
_FORGOTTEN_S: Final = 10.0
"""A part at which nobody has looked for so long after its frame grew old."""


class Overview(Generic[Frame]):
    """Frames that `compute` makes, for any number of streams; a slow one skips frames, and delays nobody."""

    def __init__(self, compute: Callable[[], Awaitable[Frame]]) -> None:
        self._compute = compute
        self._looking: Counter[Hashable] = Counter()
        self._somebody = asyncio.Event()
        self._next: asyncio.Future[Frame] | None = None
        self._last: tuple[float, Frame] | None = None

    async def frames(self, caller: Hashable = None) -> AsyncGenerator[Frame, None]:
        """The frame of now, if one is fresh, then each new one. Raises QuotaExceeded.

        A caller may have as many places as it leaves free (all, where callers are not told apart: None), so
        that none keeps the others out.
        """
        own, free = self._looking[caller], MOST_LOOKING - self._looking.total()
        if not free or (caller is not None and own >= free):
            raise _too_many(own, free)
        self._looking[caller] += 1
        self._somebody.set()
        try:
            if self._last is not None and time.monotonic() - self._last[0] < EVERY_S:
                yield self._last[1]
            while True:
                if self._next is None:
                    self._next = asyncio.get_running_loop().create_future()
                yield await asyncio.shield(self._next)
        finally:
            self._looking[caller] -= 1
            if not self._looking[caller]:
                del self._looking[caller]
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


def _too_many(own: int, free: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"this caller watches the cluster {own} times already, and this broker has {free} more places for"
        " all others; close some streams, or share one",
        {"limit": str(own), "bound": "token" if free else "broker"},
    )


class Parts(Generic[Part, Frame]):
    """The newest frame of each part that somebody looks at, made when it is wanted. All parts together cost
    as little as the whole: the more there are, the older each may become."""

    def __init__(self, compute: Callable[[Part], Awaitable[Frame]]) -> None:
        self._compute = compute
        self._kept: dict[Part, tuple[float, Frame]] = {}
        """Until when each is good."""
        self._one = asyncio.Lock()

    async def newest(self, part: Part) -> Frame:
        """The frame of a part. Raises StorageUnavailable."""
        async with self._one:
            began = time.monotonic()
            good_until, frame = self._kept.get(part, (began, None))
            if frame is not None and began < good_until:
                return frame
            self._kept = {each: kept for each, kept in self._kept.items() if began < kept[0] + _FORGOTTEN_S}
            frame = await self._compute(part)
            now = time.monotonic()
            shares = len(self._kept.keys() | {part})
            self._kept[part] = now + max(EVERY_S, (now - began) * _SHARE * shares), frame
            return frame
