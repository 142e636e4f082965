"""Which lane a task goes to that is made here instead of sent: that of a slot, or of the outbox."""

from collections.abc import Iterable
from dataclasses import dataclass

from hyrex_broker.domain.errors import TooManyQueues
from hyrex_broker.domain.keys import KeyedName
from hyrex_broker.domain.model import LaneId
from hyrex_broker.engine.growth import AT_ONCE
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.submit.keyed import KeyHasher
from hyrex_broker.storage.lanes import LaneKey


@dataclass(frozen=True, slots=True)
class KeyedPlace:
    """A lane (None: there are more than may be made now), and the hash of the concurrency key."""

    lane: LaneId | None
    key_hash: int | None

    def known(self, queue: str, task: str) -> LaneId:
        """The lane of these tasks. Raises TooManyQueues."""
        if self.lane is None:
            raise TooManyQueues(f"task {task} of queue {queue!r}", AT_ONCE)
        return self.lane


class KeyedLanes:
    """Finds lanes by queue, name and keys, and makes them where there are none."""

    def __init__(self, directory: Directory, hasher: KeyHasher) -> None:
        self._directory = directory
        self._hasher = hasher

    async def of(self, wanted: Iterable[KeyedName]) -> dict[KeyedName, KeyedPlace]:
        """The places of tasks. Raises StorageUnavailable."""
        names = set(wanted)
        found = {each: (await self._lane(each), await self._hash(each)) for each in names}
        find = self._directory.find
        unknown = {lane for lane, _ in found.values() if find(*lane) is None}
        if unknown:
            await self._directory.intern(unknown)
        return {each: KeyedPlace(find(*lane), key_hash) for each, (lane, key_hash) in found.items()}

    async def _lane(self, wanted: KeyedName) -> LaneKey:
        queue, name, concurrency_key, fair_key = wanted
        bucket = 0 if fair_key is None else await self._hasher.bucket((queue, name, fair_key))
        return LaneKey(queue, name, concurrency_key is not None, bucket)

    async def _hash(self, wanted: KeyedName) -> int | None:
        queue, name, key, _ = wanted
        return None if key is None else await self._hasher.hash((queue, name, key))
