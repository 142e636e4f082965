"""The directory of lanes: the queues, limits and pauses that this broker knows.

Kept in memory, and refreshed by notifications of other brokers and by a slow poll. What must be exact is
ensured by the database: an assign locks the limits of a lane before it reads the lane.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable, TooManyQueues
from hyrex_broker.domain.features import Feature, FeatureGate
from hyrex_broker.domain.model import LaneId
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.engine.growth import AT_ONCE, Growth
from hyrex_broker.engine.lane_families import LaneFamilies
from hyrex_broker.storage.lanes import Definition, Lane, LaneKey, LaneName, LaneStore, Limit

log = logging.getLogger(__name__)

_CLOSED_BELOW_S: Final = 43_200.0
"""A lane that may be used for less is interned again: statements that are late and clocks that drift have
that time. A broker that was stopped for longer is told by the database (`LanesClosed`)."""
_GONE_PORTION: Final = 10_000
_INTERNED_AT_ONCE: Final = 5000


class Directory:
    """Lanes by id and by (queue, name), with the limits and pauses that concern them.

    It knows only lanes that this broker has met: tasks were submitted to them or declared here, they have
    work, or their leases end here. A cluster may have many more.
    """

    def __init__(self, store: LaneStore) -> None:
        self._store = store
        self._ids: dict[tuple[str, str, bool, int], LaneId] = {}
        """Of lanes in which tasks may be stored; any other is interned again first, which renews it."""
        self._closing: list[tuple[float, LaneKey]] = []
        """A heap of when each of them is to be interned again."""
        self._heads: dict[tuple[str, str], LaneId] = {}
        self._plain: set[LaneId] = set()
        self._limits: dict[tuple[str, str], Limit] = {}
        self._members: dict[tuple[str, str], list[LaneId]] = {}
        self._paused: frozenset[str] = frozenset()
        self._wanted: set[LaneId] = set()
        self._lost: set[LaneId] = set()
        self._interning = asyncio.Lock()
        self._asked: dict[LaneKey, None] = {}
        self._without_rate: dict[tuple[str, str], DeclaredLimit] = {}
        """Limits of code whose rates have to wait."""
        self.gate = FeatureGate()
        self._growth = Growth()
        self.names: dict[LaneId, tuple[str, str]] = {}
        self.families = LaneFamilies()
        self.max_waiting: Mapping[str, int] = {}
        """The most tasks that may wait in a queue, of those that have a maximum."""
        self.on_new_lanes: list[Callable[[Mapping[LaneId, tuple[str, str]]], None]] = []
        """Called with the (queue, task name) of lanes that were not known here."""
        self.on_forgotten: list[Callable[[Collection[LaneId]], None]] = []
        """Called with lanes that are known no longer."""
        self.needed: list[Callable[[], Collection[LaneId]]] = []
        """Lanes of which a part of this broker still needs the names: they are not forgotten, though they are
        gone from the database."""
        self.on_change: list[Callable[[], None]] = []
        """Called after limits or pauses have changed here."""
        self.on_write: list[Callable[[], None]] = []
        """Called after this broker has written a change that the others must read."""

    async def refresh(self) -> None:
        """Read limits and pauses, and the names of lanes of which only the ids are known."""
        await self.meet(self._wanted)
        self._wanted.clear()
        self._close_old()
        limits = {(limit.scope, limit.name): limit for limit in await self._store.limits()}
        paused, self.max_waiting = await self._store.steered()
        if limits != self._limits or paused != self._paused:
            self._limits, self._paused = limits, paused
            for call in self.on_change:
                call()

    async def changed_here(self) -> None:
        """Read a change that this broker has just written, and tell the others."""
        await self.refresh()
        for tell in self.on_write:
            tell()

    async def meet(self, lanes: Iterable[LaneId]) -> None:
        """Read the names of these lanes. Raises StorageUnavailable."""
        unknown = [lane for lane in lanes if lane not in self.names]
        if unknown:
            self._learn(await self._store.lanes(unknown))
            self._name_lost({lane for lane in unknown if lane not in self.names})

    def _name_lost(self, lanes: set[LaneId]) -> None:
        """Log lanes that have tasks and are not stored, each once: nobody can tell what those tasks are."""
        lost = lanes - self._lost
        self._lost |= lost
        if lost:
            log.error(
                "tasks name lanes that are not stored, and cannot run; `hyrex doctor` names the tasks",
                extra={"lanes": sorted(lost)},
            )

    def want(self, lanes: Iterable[LaneId]) -> bool:
        """Read these lanes at the next refresh. Return True if any is unknown."""
        unknown = [lane for lane in lanes if lane not in self.names]
        self._wanted.update(unknown)
        return bool(unknown)

    def _learn(self, lanes: Collection[Lane]) -> None:
        now = time.monotonic()
        for lane in lanes:
            if lane.usable_s > _CLOSED_BELOW_S and self._ids.get(lane.key) != lane.lane_id:
                self._ids[lane.key] = lane.lane_id
                heappush(self._closing, (now + lane.usable_s - _CLOSED_BELOW_S, lane.key))
        met = [lane for lane in lanes if lane.lane_id not in self.names]
        new = {lane.lane_id: (lane.queue, lane.name) for lane in met}
        self.names |= new
        for lane in met:
            pair = new[lane.lane_id]
            if not (lane.followed or lane.bucket):
                self._heads[pair] = lane.lane_id
            self.families.add(lane, self._heads.get(pair))
            if not lane.followed:
                self._plain.add(lane.lane_id)
            self._members.setdefault(("queue", lane.queue), []).append(lane.lane_id)
            self._members.setdefault(("task", lane.name), []).append(lane.lane_id)
        if new:
            for call in self.on_new_lanes:
                call(new)

    def _close_old(self) -> None:
        now = time.monotonic()
        while self._closing and self._closing[0][0] <= now:
            self._ids.pop(heappop(self._closing)[1], None)

    def close_all(self) -> None:
        """Intern each lane again before tasks are stored in it: the database has refused one of them."""
        self._ids.clear()
        self._closing.clear()

    async def forget_gone(self) -> None:
        """Forget lanes that were removed since nobody had used them for long. Raises StorageUnavailable."""
        usable = set(self._ids.values())
        known = [lane for lane in self.names if lane not in usable]
        for start in range(0, len(known), _GONE_PORTION):
            gone = await self._store.gone(known[start : start + _GONE_PORTION])
            kept = frozenset[LaneId]().union(*(call() for call in self.needed))
            self._forget({lane for lane in gone if lane not in kept and lane in self.names})

    def _forget(self, gone: set[LaneId]) -> None:
        gone -= self.families.forget(gone)
        members: dict[tuple[str, str], None] = {}
        for lane in gone:
            queue, name = pair = self.names.pop(lane)
            members |= {("queue", queue): None, ("task", name): None}
            self._plain.discard(lane)
            if self._heads.get(pair) == lane:
                del self._heads[pair]
        for key in members:
            left = [lane for lane in self._members[key] if lane not in gone]
            if left:
                self._members[key] = left
            else:
                del self._members[key]
        if gone:
            for call in self.on_forgotten:
                call(gone)

    def with_tasks(self, names: Iterable[str]) -> Iterator[LaneId]:
        """Known lanes of tasks with these names; what is met while they are looked at may be missing."""
        for name in names:
            yield from tuple(self._members.get(("task", name), ()))

    def may_be_followed(self, lane: LaneId) -> bool:
        """Return True if something waits for the ends of its tasks, or this broker does not know it."""
        return lane not in self._plain

    def find(self, queue: str, name: str, followed: bool = False, bucket: int = 0) -> LaneId | None:
        """A lane, if this broker knows it; the plain one, unless said."""
        return self._ids.get((queue, name, followed, bucket))

    async def intern(self, names: Iterable[LaneName]) -> None:
        """Make lanes known, here and in the database. One at a time, with what others wait for meanwhile:
        many lanes that were met together are interned again together.

        One that `find` does not find afterwards would exceed the lanes that may be made now.
        """
        wanted = {key for name in names if (key := LaneKey(*name)) not in self._ids}
        self._asked |= dict.fromkeys(wanted)
        async with self._interning:
            missing = {key for key in wanted if key not in self._ids}
            if missing:
                missing |= {key for key in islice(self._asked, _INTERNED_AT_ONCE) if key not in self._ids}
            for key in wanted | missing:
                self._asked.pop(key, None)
            if missing:
                granted = self._growth.take(len(missing))
                lanes: list[Lane] = []
                try:
                    lanes = await self._store.intern(missing, granted)
                finally:
                    self._growth.give_back(granted - sum(lane.is_new for lane in lanes))
                self._learn(lanes)

    async def make_queues(self, names: Sequence[str]) -> None:
        """Take queues that may be new from the number that may be made. Raises TooManyQueues."""
        new = await self._store.unknown_queues(names)
        granted = self._growth.take(len(new))
        if granted < len(new):
            self._growth.give_back(granted)
            raise TooManyQueues(f"queue {new[granted]!r}", AT_ONCE)

    def is_paused(self, lane: LaneId) -> bool:
        """Return True if the lane's queue is paused."""
        return self.names[lane][0] in self._paused

    def limits_of(self, lane: LaneId) -> list[tuple[str, str]]:
        """Keys of the limits that bind the lane."""
        if lane not in self.names:
            return []  # just made by another broker
        queue, name = self.names[lane]
        return [key for key in (("queue", queue), ("task", name)) if key in self._limits]

    def rated_lanes(self) -> frozenset[LaneId]:
        """The known lanes with a rate."""
        rates = [key for key, limit in self._limits.items() if limit.rate is not None]
        return frozenset(lane for key in rates for lane in self.members(key))

    def members(self, limit: tuple[str, str]) -> list[LaneId]:
        """All lanes that share a limit."""
        return self._members.get(limit, [])

    async def tasks_elsewhere(self, names: Collection[str], patterns: Collection[str]) -> frozenset[str]:
        """Those of these task names that some queue of the cluster has, met here or not, which none of the
        patterns matches. Raises StorageUnavailable."""
        return await self._store.tasks_elsewhere(names, patterns) if names else frozenset()

    async def declare(
        self, definitions: list[Definition], limits: Sequence[DeclaredLimit], queues: list[str]
    ) -> None:
        """Take over what a worker's code declares; writes only what differs. Raises TooManyQueues."""
        await self.intern((definition.queue, definition.name) for definition in definitions)
        for definition in definitions:
            if self.find(definition.queue, definition.name) is None:
                raise TooManyQueues(f"task {definition.name} of queue {definition.queue!r}", AT_ONCE)
        await self._store.declare_tasks(definitions)
        if queues:
            await self.make_queues(queues)
            await self._store.add_queues(queues)
        # A limit is removed only if all living workers agree: see `settle_limits`.
        changed = [
            limit
            for limit in await self._usable(limits)
            if limit.binds
            and (
                (known := self._limits.get((limit.scope, limit.name))) is None
                or (known.source == "code" and not known.is_as(limit))
            )
        ]
        if changed:
            await self._store.declare_limits(changed)
            await self.changed_here()

    async def _usable(self, limits: Sequence[DeclaredLimit]) -> Sequence[DeclaredLimit]:
        """Limits as they may be set now: their rates wait for brokers of an earlier version to go, which
        would read a limit without one. Raises StorageUnavailable."""
        rated = {(limit.scope, limit.name): limit for limit in limits if limit.rate is not None}
        error = await self.gate.use([Feature.RATES]) if rated else None
        if error is None:
            return limits
        if not rated.keys() <= self._without_rate.keys():
            told = {"limits": [name for _, name in rated][:20], "error": error.message}
            log.warning("rates of a worker's code wait for an older broker to go", extra=told)
        self._without_rate |= rated
        return [limit._replace(rate=None) for limit in limits]

    async def settle_limits(self) -> None:
        """Set limits of code to what the newest living session says of them, and drop what none says."""
        if self._without_rate and self.gate.refusal([Feature.RATES]) is None:
            waiting, self._without_rate = self._without_rate, {}
            try:
                await self.declare([], [*waiting.values()], [])
            except StorageUnavailable:
                self._without_rate = waiting | self._without_rate
                raise
        if any(limit.source == "code" for limit in self._limits.values()):
            changed = await self._store.unsettled_limits()
            if any(limit.rate is not None for limit in changed) and await self.gate.use([Feature.RATES]):
                changed = [limit for limit in changed if limit.rate is None]
            if changed:
                await self._store.declare_limits(changed)
                await self.changed_here()
