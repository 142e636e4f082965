"""The dispatcher: one assign after the other moves ready tasks to sessions with free capacity.

Each assign serves all sessions of this broker in one statement; what becomes ready or free meanwhile is
in the next one. Runs are pushed after the commit only.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId
from hyrex_broker.engine.lanes import Directory
from hyrex_broker.engine.placing import Placer
from hyrex_broker.engine.sessions import Sessions
from hyrex_broker.engine.turnover import Turnover
from hyrex_broker.engine.turns import Room, Turns
from hyrex_broker.storage.assign import AssignResult, AssignStore, LaneQuota, Plan

log = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 1.0
SWEEP_INTERVAL_S: Final = 4.0
_PATIENCE_FACTOR: Final = 20
"""A look that takes long is taken less often: it may use a twentieth of a connection's time."""
_PAUSE_AFTER_FAILURE_S: Final = 0.2


@dataclass(slots=True)
class Look:
    """Something to look for now and then."""

    interval_s: float
    look: Callable[[], Awaitable[None]]
    due: float = 0.0

    async def again(self) -> None:
        """Look, if it is time."""
        began = time.monotonic()
        if began < self.due:
            return
        try:
            await self.look()
        finally:
            ended = time.monotonic()
            # Half a tick early: the ticks of the caller decide.
            self.due = ended + max(self.interval_s / 2, _PATIENCE_FACTOR * (ended - began))


class Dispatcher:
    """Plans assigns, makes them, and learns from them which lanes have work."""

    def __init__(self, store: AssignStore, placer: Placer, sessions: Sessions, directory: Directory) -> None:
        self._store = store
        self._placer = placer
        self._sessions = sessions
        self._directory = directory
        self._turns = Turns()
        self._called = asyncio.Event()
        self._look = asyncio.Event()
        self.turnover = Turnover()
        self.on_local_work: Callable[[Iterable[tuple[LaneId, int]]], None] = lambda pairs: None
        sessions.on_capacity = self._called.set

    def wake(self, pairs: Iterable[tuple[LaneId, int]], *, local: bool) -> None:
        """These (lane, rank) have work; `local`: this broker made it, and the others must hear."""
        if self._directory.want(lane for lane, _ in pairs):
            self.look_again()
        self._turns.wake(pairs)
        self._called.set()
        if local:
            self.on_local_work(pairs)

    def capacity_changed(self) -> None:
        """Some session may take more."""
        if self._turns.active:
            self._called.set()

    def leases_ended(self, lanes: Iterable[LaneId], count: int) -> None:
        """So many leases of these lanes have ended: limits may have room, sessions have capacity."""
        for lane in lanes:
            for limit in self._directory.limits_of(lane):
                self._turns.unpark(self._directory.members(limit))
        self.capacity_changed()
        self.turnover.ended(count)

    def look_again(self) -> None:
        """Something was written elsewhere: read lanes, limits, pauses and work anew, soon."""
        self._look.set()

    def offer(self, counts: Mapping[LaneId, int]) -> list[LaneQuota]:
        """Slots for tasks that are about to be stored: only while nothing waits, from lanes that are
        neither limited nor paused (rule 18)."""
        room = Room(list(self._sessions.shapes))
        quotas = []
        for lane in self.offerable(counts):
            slots = room.take(lane, 1, counts[lane])
            if slots:
                quotas.append(LaneQuota(lane, self._turns.pairs(lane, range(10)), slots))
        return quotas

    def offerable(self, lanes: Iterable[LaneId]) -> list[LaneId]:
        """Those of the lanes that some session here would be offered tasks of, had it room."""
        shapes = list(self._sessions.shapes)
        # What waits for a worker of another broker, or for none, is no reason to make others wait.
        if any(self._readable(lane) for lane in self._turns.served(shapes)):
            return []
        return [
            lane
            for lane in lanes
            if self._readable(lane)
            and not self._directory.limits_of(lane)
            and any(lane in shape.lanes for shape in shapes)
        ]

    def offered(self, quotas: Iterable[LaneQuota], at: datetime) -> None:
        """A hand-off has found nothing ready in these lanes, at that time of the database."""
        for quota in quotas:
            self._turns.read_empty(((quota.lane, rank) for rank, _ in quota.pairs), at)

    async def run(self) -> None:
        """Assign until cancelled."""
        self._called.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._assign_when_called())
            group.create_task(self._poll())
            group.create_task(self._placer.run())

    async def _assign_when_called(self) -> None:
        while True:
            await self._called.wait()
            self._called.clear()
            try:
                while await self._assign():
                    pass
            except StorageUnavailable as error:
                log.debug("dispatcher waits for the database", extra={"error": str(error)})
                self._called.set()
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _poll(self) -> None:
        """Find what no word was heard of: lost notifications, rows of statements that failed."""
        looks = [Look(POLL_INTERVAL_S, self._find_work), Look(SWEEP_INTERVAL_S, self._find_below_marks)]
        while True:
            try:
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._look.wait()
                looks[0].due = 0.0
            except TimeoutError:
                pass
            self._look.clear()
            if self._placer.doubts:
                self._called.set()
            try:
                await self._directory.refresh()
                if any(shape.sessions for shape in self._sessions.shapes):
                    for look in looks:
                        await look.again()
            except StorageUnavailable:
                continue

    async def _find_work(self) -> None:
        pairs = await self._store.lanes_with_work()
        await self._directory.meet({lane for lane, _ in pairs})
        self._turns.unpark({lane for lane, _ in pairs})
        if pairs:
            self.wake(pairs, local=False)

    async def _find_below_marks(self) -> None:
        """Assigns never read below the marks, whatever became of this: under a transaction that is held open
        it may have to pass millions of dead entries."""
        for lane, rank, arrival in await self._store.below_marks(self._turns.marked()):
            self._turns.lower(lane, rank, arrival)
            self._called.set()

    async def _assign(self) -> bool:
        """Make one assign for free lanes and one for limited ones; return whether to go on."""
        for quota in await self._placer.settle_doubts():
            self._turns.wake((quota.lane, rank) for rank, _ in quota.pairs)
        quotas = self._turns.plan(list(self._sessions.shapes), self._readable)
        limited = [quota for quota in quotas if self._directory.limits_of(quota.lane)]
        free = [quota for quota in quotas if quota not in limited] if limited else quotas
        if free:
            await self._make(free, limited=False)
        if limited and free:
            # Sessions may have left meanwhile, and others have less room.
            again = self._turns.plan(list(self._sessions.shapes), self._readable)
            limited = [quota for quota in again if self._directory.limits_of(quota.lane)]
        if limited:
            await self._make(limited, limited=True)
        return bool(quotas)

    async def _make(self, quotas: Sequence[LaneQuota], *, limited: bool) -> None:
        with self._placer.plan(quotas) as plan:
            result = await (
                self._assign_limited(plan) if limited else self._store.assign(plan, self._directory.names)
            )
            if not result.refused:
                self._turns.learn(quotas, result)
                self._placer.push(plan, result.taken)
                return
        await self._placer.drop_lost_sessions(plan)

    async def _assign_limited(self, plan: Plan) -> AssignResult:
        limits = {quota.lane: self._directory.limits_of(quota.lane) for quota in plan.quotas}
        return await self._store.assign_limited(plan, self._directory.names, limits)

    def _readable(self, lane: LaneId) -> bool:
        return lane in self._directory.names and not self._directory.is_paused(lane)
