"""What is done with the rights `admin` and `payload`.

What an admin does is stored before it takes effect. Looks at payloads are many and small: they are counted
by caller and kind, and stored every few seconds. Who goes on looking at a task, as an open page does, looks
once.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.audit import Deed

log = logging.getLogger(__name__)

FLUSH_S: Final = 5.0
MOST_NAMED: Final = 20
"""Of tasks that were looked at, so many are named in an entry, each once; looks at all are counted."""
_MOST_KINDS: Final = 1000
ONE_LOOK_S: Final = 600.0
"""A caller that is shown a task again within this time looks at it still: that is no further look."""
MOST_REMEMBERED: Final = 20_000
"""So many shown tasks are remembered for that, about 5 MB; beyond it looks are counted more than once."""


class Entries(Protocol):
    """Stores entries. Raises StorageUnavailable."""

    async def record(self, deeds: Sequence[Deed]) -> None:
        """All or none."""
        ...


@dataclass(slots=True)
class _Looks:
    """Looks of one caller of one kind."""

    count: int = 0
    named: dict[str, None] = field(default_factory=dict)


class Audit:
    """Records of one broker."""

    def __init__(self, store: Entries) -> None:
        self._store = store
        self._looks: dict[tuple[str, str], _Looks] = {}
        self._shown: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        """Callers, kinds and tasks, and when each was shown last; the oldest first."""

    async def record(
        self, who: str, action: str, target: str, details: Mapping[str, str] | None = None
    ) -> None:
        """Store what a caller is about to do, and to what. Raises StorageUnavailable: then it must not be
        done."""
        await self._store.record([Deed(who, action, target, details or {})])

    def looked(self, who: str, action: str, task_ids: Sequence[str]) -> None:
        """Note that a caller has seen what these tasks carry."""
        now = time.monotonic()
        new = [each for each in task_ids if self._begins((who, action, each), now)]
        if new:
            self._add(who, action, _Looks(len(new), dict.fromkeys(new)))

    def _begins(self, look: tuple[str, str, str], now: float) -> bool:
        """Remember a look; False if it is the one of a moment ago, which goes on."""
        before = self._shown.pop(look, None)
        self._shown[look] = now
        if len(self._shown) > MOST_REMEMBERED:
            self._shown.popitem(last=False)
        return before is None or now - before > ONE_LOOK_S

    def _add(self, who: str, action: str, more: _Looks) -> None:
        key = who, action
        if key not in self._looks and len(self._looks) >= _MOST_KINDS:
            return  # the database has been away for long, and tokens are many
        looks = self._looks.setdefault(key, _Looks())
        looks.count += more.count
        for task_id in more.named:
            if len(looks.named) >= MOST_NAMED:
                break
            looks.named[task_id] = None

    async def run(self) -> None:
        """Store looks until cancelled; then those that are left."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self.flush()
        finally:
            await self._last()

    async def flush(self) -> None:
        """Store the looks of this time. Without an answer they are kept."""
        looks, self._looks = self._looks, {}
        if not looks:
            return
        deeds = [
            Deed(who, action, "", {"count": str(found.count), "tasks": " ".join(found.named)})
            for (who, action), found in looks.items()
        ]
        try:
            await self._store.record(deeds)
        except StorageUnavailable as error:
            log.debug("looks could not be stored; trying again", extra={"error": str(error)})
            for (who, action), found in looks.items():
                self._add(who, action, found)

    async def _last(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self.flush()
        except TimeoutError:
            log.debug("looks not stored at shutdown")
