"""The directory of lanes: what this broker knows of queues, limits and pauses.

Kept in memory, refreshed by words of other brokers and by a slow poll; the database guards what must be
exact (an assign never reads a limited lane without holding its limit).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from hyrex_broker.domain.model import LaneId
from hyrex_broker.storage.lanes import Definition, Lane, LaneStore, Limit


class Directory:
    """Lanes by id and by (queue, name), with the limits and pauses that touch them."""

    def __init__(self, store: LaneStore) -> None:
        self._store = store
        self._ids: dict[tuple[str, str], LaneId] = {}
        self._limits: dict[tuple[str, str], Limit] = {}
        self._members: dict[tuple[str, str], list[LaneId]] = {}
        self._paused: frozenset[str] = frozenset()
        self._highest = LaneId(0)
        self._interning = asyncio.Lock()
        self.names: dict[LaneId, tuple[str, str]] = {}
        self.on_new_lanes: list[Callable[[Mapping[LaneId, tuple[str, str]]], None]] = []
        """Called with the (queue, task name) of lanes that were not known here."""
        self.on_change: list[Callable[[], None]] = []
        """Called after limits or pauses have changed here."""
        self.on_write: list[Callable[[], None]] = []
        """Called after this broker has written a change that the others must read."""

    async def refresh(self) -> None:
        """Read what is new."""
        await self._read_new_lanes()
        limits = {(limit.scope, limit.name): limit for limit in await self._store.limits()}
        paused = await self._store.paused()
        if limits != self._limits or paused != self._paused:
            self._limits, self._paused = limits, paused
            for call in self.on_change:
                call()

    async def changed_here(self) -> None:
        """Read a change that this broker has just written, and tell the others."""
        await self.refresh()
        for tell in self.on_write:
            tell()

    async def _read_new_lanes(self) -> None:
        # Ids become visible out of order when two brokers intern at once: read some again.
        lanes = await self._store.lanes(LaneId(max(self._highest - 100, 0)))
        self._learn(lanes)
        if lanes:
            self._highest = max(self._highest, lanes[-1].lane_id)

    def _learn(self, lanes: Iterable[Lane]) -> None:
        new = {lane.lane_id: (lane.queue, lane.name) for lane in lanes if lane.lane_id not in self.names}
        self.names |= new
        for lane, (queue, name) in new.items():
            self._ids[queue, name] = lane
            self._members.setdefault(("queue", queue), []).append(lane)
            self._members.setdefault(("task", name), []).append(lane)
        if new:
            for call in self.on_new_lanes:
                call(new)

    def find(self, queue: str, name: str) -> LaneId | None:
        """The lane, if this broker knows it."""
        return self._ids.get((queue, name))

    async def intern(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Make lanes known, here and in the database. One at a time: it is rare."""
        async with self._interning:
            missing = {pair for pair in pairs if pair not in self._ids}
            if missing:
                self._learn(await self._store.intern(missing))

    def is_paused(self, lane: LaneId) -> bool:
        """Whether the lane's queue is paused."""
        return self.names[lane][0] in self._paused

    def limits_of(self, lane: LaneId) -> list[tuple[str, str]]:
        """Keys of the limits that bind the lane."""
        if lane not in self.names:
            return []  # interned elsewhere a moment ago
        queue, name = self.names[lane]
        return [key for key in (("queue", queue), ("task", name)) if key in self._limits]

    def members(self, limit: tuple[str, str]) -> list[LaneId]:
        """All lanes that share a limit."""
        return self._members.get(limit, [])

    async def declare(
        self, definitions: list[Definition], limits: list[tuple[str, str, int]], queues: list[str]
    ) -> None:
        """Take over what a worker's code declares; writes only what differs."""
        await self._store.declare_tasks(definitions)
        if queues:
            await self._store.add_queues(queues)
        await self.intern((definition.queue, definition.name) for definition in definitions)
        changed = [
            (scope, name, maximum)
            for scope, name, maximum in limits
            if ((known := self._limits.get((scope, name))) is None and maximum > 0)
            or (known is not None and known.source == "code" and known.maximum != maximum)
        ]
        if changed:
            await self._store.declare_limits(changed)
            await self.changed_here()
