"""The dispatcher moves ready tasks to sessions with free capacity, one assign after the other.

One assign is one statement for all sessions of this broker. Tasks that become ready meanwhile, and slots that
become free, are part of the next one. Runs are sent to workers only after the commit.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.engine.dispatch.fair_shares import FairShares
from hyrex_broker.engine.dispatch.lane_schedule import LaneSchedule
from hyrex_broker.engine.dispatch.lease_placer import Placer
from hyrex_broker.engine.dispatch.release_rate import ReleaseRate
from hyrex_broker.engine.dispatch.token_waits import TokenWaits
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.looks import Look
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import WorkerProfile
from hyrex_broker.storage.assign import AssignResult, AssignStore, LaneQuota, Plan
from hyrex_broker.storage.limits import Clock
from hyrex_broker.storage.marks import MarkStore

log = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 1.0
SWEEP_INTERVAL_S: Final = 4.0
KEEP_INTERVAL_S: Final = 10.0
_KEEP_AFTER_ROWS: Final = 5000
"""A low-water mark is stored for later brokers when so many dead rows are below it."""
_PAUSE_AFTER_FAILURE_S: Final = 0.2
_MICROSECOND: Final = timedelta(microseconds=1)


class Dispatcher:
    """Plans and makes assigns, and learns from their results which lanes have work."""

    def __init__(
        self,
        store: AssignStore,
        marks: MarkStore,
        placer: Placer,
        sessions: Sessions,
        directory: Directory,
    ) -> None:
        self._store = store
        self._counters = store.counters
        self._mark_store = marks
        self._placer = placer
        self._sessions = sessions
        self._directory = directory
        self._schedule = LaneSchedule(directory.families, FairShares(sessions.leases_by_lane))
        self._token_waits = TokenWaits(self._tokens_come)
        self.clock: Clock = lambda now: None
        self._called = asyncio.Event()
        self._look = asyncio.Event()
        self.release_rate = ReleaseRate()
        self.on_local_work: Callable[[Iterable[tuple[LaneId, int]]], None] = lambda pairs: None
        self.on_change: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        self.on_ended: Callable[[LaneId, Iterable[TaskId]], None] = lambda lane, task_ids: None
        """Called with tasks of a lane that have ended without a run, after the commit."""
        """Told of tasks that ended instead of being assigned."""
        sessions.on_capacity = self._called.set
        directory.on_new_lanes.append(self._met)
        directory.on_forgotten.append(self._schedule.forget)
        directory.on_change.append(self._limits_changed)

    def wake(self, pairs: Iterable[tuple[LaneId, int]], *, local: bool) -> None:
        """Note that these (lane, rank) pairs have work. `local`: it was made here, so tell other brokers."""
        if self._directory.want(lane for lane, _ in pairs):
            self.look_again()
        self._schedule.wake(pairs)
        self._called.set()
        if local:
            self.on_local_work(pairs)

    def _met(self, lanes: Iterable[LaneId]) -> None:
        self._schedule.regroup(lanes)
        self._lanes_changed()

    def _lanes_changed(self) -> None:
        self._schedule.rated = self._directory.rated_lanes()
        self._schedule.look_again()

    def _limits_changed(self) -> None:
        self._lanes_changed()
        self._token_waits.end()

    def _tokens_come(self, lanes: Iterable[LaneId]) -> None:
        self._schedule.tokens_come(lanes)
        self._called.set()

    def capacity_changed(self) -> None:
        """Assign again: some session may take more."""
        if self._schedule.active:
            self._called.set()

    def leases_ended(self, lanes: Iterable[LaneId], count: int) -> None:
        """Note that so many leases of these lanes ended: limits may allow more, and sessions take more."""
        for lane in lanes:
            for limit in self._directory.limits_of(lane):
                self._schedule.unpark(self._directory.members(limit))
        self.capacity_changed()
        self.release_rate.ended(count)

    def look_again(self) -> None:
        """Read lanes, limits, pauses and work again soon, because they may have changed elsewhere."""
        self._look.set()

    def reserve_slots(self, counts: Mapping[LaneId, int]) -> list[LaneQuota]:
        """Reserve slots for tasks that are about to be stored: only while nothing waits, and only for lanes
        that are neither limited nor paused (rule 18)."""
        lanes = self.lanes_open_to_handoff(counts)
        if not lanes:
            return []
        return self._schedule.reserve_slots(self._profiles(), {lane: counts[lane] for lane in lanes})

    def _profiles(self) -> list[WorkerProfile]:
        return list(self._sessions.profiles)

    def lanes_open_to_handoff(self, lanes: Iterable[LaneId]) -> list[LaneId]:
        """The lanes whose tasks may go straight to a session of this broker that has free capacity."""
        profiles = self._profiles()
        # Only waiting tasks that a session here could run go first: others wait for other workers anyway.
        if self._schedule.any_served(profiles, self._readable):
            return []
        return [
            lane
            for lane in lanes
            if self._readable(lane)
            and not self._directory.limits_of(lane)
            and any(lane in profile.lanes for profile in profiles)
        ]

    def mark_lanes_empty(self, quotas: Iterable[LaneQuota], at: datetime) -> None:
        """Note that a hand-off found nothing ready in these lanes, at that time by the database's clock."""
        for quota in quotas:
            self._schedule.read_empty([(quota.lane, rank) for rank, _ in quota.pairs], at)

    def sizes(self) -> dict[str, int]:
        """How much is here now, for the printed state (SIGUSR1)."""
        return self._schedule.sizes() | self._placer.sizes()

    async def run(self) -> None:
        """Assign until cancelled."""
        await self._begin()
        self._called.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._assign_when_called())
            group.create_task(self._poll())
            group.create_task(self._placer.run())

    async def _begin(self) -> None:
        """Begin at the stored low-water marks: below them there may be millions of dead rows."""
        try:
            self._schedule.recall(await self._mark_store.load(heads=False))
            await self._find_above_marks()
        except StorageUnavailable as error:
            log.debug("dispatcher begins without marks", extra={"error": str(error)})

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
        """Find work that no notification told of: it was lost, or a statement failed after storing rows."""
        work = Look(POLL_INTERVAL_S, self._find_work)
        looks = [
            work,
            Look(SWEEP_INTERVAL_S, self._find_below_marks),
            Look(KEEP_INTERVAL_S, self._keep_marks),
        ]
        while True:
            try:
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._look.wait()
                if not work.is_patient:
                    work.due = 0.0
            except TimeoutError:
                pass
            self._look.clear()
            if self._placer.has_unresolved:
                self._called.set()
            try:
                await self._directory.refresh()
                if any(profile.sessions for profile in self._sessions.profiles):
                    if work.is_patient:
                        await self._find_above_marks()
                    await self._take(looks)
            except StorageUnavailable:
                continue

    async def _take(self, looks: Sequence[Look]) -> None:
        for look in looks:
            try:
                await look.again()
            except StorageUnavailable as error:
                log.debug("dispatcher could not look for work; it tries again", extra={"error": str(error)})

    async def _find_work(self) -> None:
        pairs = await self._store.lanes_with_work()
        await self._directory.meet({lane for lane, _ in pairs})
        self._schedule.unpark({lane for lane, _ in pairs})
        if pairs:
            self.wake(pairs, local=False)

    async def _find_above_marks(self) -> None:
        """Find work in the lanes that were read before, without reading dead rows below their marks."""
        pairs = await self._store.work_above(self._schedule.marked())
        self._schedule.unpark({lane for lane, _ in pairs})
        if pairs:
            self.wake(pairs, local=False)

    async def _keep_marks(self) -> None:
        """Store low-water marks for brokers that begin later."""
        marks = self._schedule.to_keep(_KEEP_AFTER_ROWS)
        if marks:
            await self._mark_store.save(marks)

    async def _find_below_marks(self) -> None:
        """Lower the marks that have a ready row below them, since assigns never read there.

        Apart from the other looks: while some transaction is held open, it may have to pass millions of dead
        index entries.
        """
        for lane, rank, arrival in await self._store.below_marks(self._schedule.marked()):
            self._schedule.lower(lane, rank, arrival)
            self._called.set()

    async def _assign(self) -> bool:
        """Make one assign for free lanes and one for limited ones. Return True if more may follow.

        Both are of one plan, so that each lane has one turn: with a plan for each, the turns of the second
        were lost to the same lanes again and again.
        """
        for quota in await self._placer.settle_unresolved():
            self._schedule.wake((quota.lane, rank) for rank, _ in quota.pairs)
        quotas = self._schedule.plan(self._profiles(), self._readable)
        limited = [quota for quota in quotas if self._directory.limits_of(quota.lane)]
        free = [q for q in quotas if not self._directory.limits_of(q.lane)] if limited else quotas
        if free:
            with self._placer.keeping(limited):
                await self._make(free, limited=False)
            limited = self._placer.still_free(limited)
        if limited:
            await self._make(limited, limited=True)
        return bool(quotas)

    async def _make(self, quotas: Sequence[LaneQuota], *, limited: bool) -> None:
        with self._placer.plan(quotas) as plan:
            result = await (
                self._assign_limited(plan) if limited else self._store.assign(plan, self._directory.names)
            )
            if not result.refused:
                self._schedule.learn(quotas, result)
                self._placer.push(plan, result.blocks)
                self._count(quotas, result)
                if result.expired:
                    self._counters.cancelled(Counter(lane for _, lane in result.expired))
                    self.on_change([task_id for task_id, _ in result.expired])
                    for task_id, lane in result.expired:
                        self.on_ended(lane, [task_id])
                waiting = self._schedule.waiting
                self._token_waits.add({lane: wait for lane, wait in result.waits.items() if lane in waiting})
                return
        await self._placer.drop_lost_sessions(plan)

    def _count(self, quotas: Sequence[LaneQuota], result: AssignResult) -> None:
        if result.taken_at is not None:
            for (lane, _, arrival), count in result.arrivals.items():
                self._counters.taken(lane, count, (result.taken_at - arrival) // _MICROSECOND)
        if result.allowed is not None:
            for quota in quotas:
                if result.allowed.get(quota.lane, 0) < len(quota.slots):
                    self._counters.limited(quota.lane)

    async def _assign_limited(self, plan: Plan) -> AssignResult:
        limits = {quota.lane: self._directory.limits_of(quota.lane) for quota in plan.quotas}
        generation = self._token_waits.generation
        result = await self._store.assign_limited(plan, self._directory.names, limits, self.clock)
        return result if generation == self._token_waits.generation else replace(result, waits={})

    def _readable(self, lane: LaneId) -> bool:
        return lane in self._directory.names and not self._directory.is_paused(lane)
