"""The dispatcher: one assign after the other moves ready tasks to sessions with free capacity.

Each assign serves all sessions of this broker in one statement; what becomes ready or free meanwhile is
in the next one. Runs are pushed after the commit only.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from broker.domain.errors import SessionTakenOver, StorageUnavailable
from broker.domain.model import AssignedRun, BrokerId, LaneId, Outcome, RunEnd, SessionId
from broker.engine.lanes import Directory
from broker.engine.sessions import Session, Sessions
from broker.engine.turns import Turns
from broker.storage.assign import AssignResult, AssignStore, LaneQuota, Plan, Taken
from broker.storage.report import ReportStore
from broker.storage.sessions import Beat, SessionStore

log = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 1.0
FULL_SWEEP_EVERY: Final = 4
_PAUSE_AFTER_FAILURE_S: Final = 0.2


class Dispatcher:
    """Plans assigns, makes them, and pushes what they took."""

    def __init__(
        self,
        store: AssignStore,
        reports: ReportStore,
        session_store: SessionStore,
        sessions: Sessions,
        directory: Directory,
        broker: BrokerId,
    ) -> None:
        self._store = store
        self._reports = reports
        self._session_store = session_store
        self._sessions = sessions
        self._directory = directory
        self._broker = broker
        self._turns = Turns()
        self._token = secrets.randbits(62)
        self._doubtful: list[Plan] = []
        self._called = asyncio.Event()
        self._look = asyncio.Event()
        self.on_local_work: Callable[[Iterable[tuple[LaneId, int]]], None] = lambda pairs: None
        sessions.on_capacity = self._called.set

    def wake(self, pairs: Iterable[tuple[LaneId, int]], *, local: bool) -> None:
        """These (lane, rank) have work; `local`: this broker made it, and the others must hear."""
        self._turns.wake(pairs)
        self._called.set()
        if local:
            self.on_local_work(pairs)

    def capacity_changed(self) -> None:
        """Some session may take more."""
        self._called.set()

    def lease_ended(self, lanes: Iterable[LaneId]) -> None:
        """Leases of these lanes have ended: limits may have room, sessions have capacity."""
        for lane in lanes:
            for limit in self._directory.limits_of(lane):
                self._turns.unpark(self._directory.members(limit))
        self._called.set()

    def look_again(self) -> None:
        """Something was written elsewhere: read lanes, limits, pauses and work anew, soon."""
        self._look.set()

    async def run(self) -> None:
        """Assign until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._assign_when_called())
            group.create_task(self._poll())

    async def _assign_when_called(self) -> None:
        while True:
            await self._called.wait()
            self._called.clear()
            try:
                while await self._assign():
                    pass
            except StorageUnavailable as error:
                log.warning("dispatcher waits for the database", extra={"error": str(error)})
                self._called.set()
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _poll(self) -> None:
        """Find what no word was heard of: lost notifications, rows of statements that failed."""
        rounds = 0
        while True:
            try:
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            rounds += 1
            if not any(shape.sessions for shape in self._sessions.shapes):
                continue
            try:
                await self._directory.refresh()
                pairs = await self._store.lanes_with_work()
            except StorageUnavailable:
                continue
            if rounds % FULL_SWEEP_EVERY == 0:
                self._turns.sweep_from_zero()
            if pairs:
                self.wake(pairs, local=False)

    async def _assign(self) -> bool:
        """Make one assign for free lanes and one for limited ones; return whether to go on."""
        if self._doubtful:
            await self._settle_doubts()
        quotas = self._turns.plan(list(self._sessions.shapes), self._readable)
        limited = [quota for quota in quotas if self._directory.limits_of(quota.lane)]
        free = [quota for quota in quotas if quota not in limited] if limited else quotas
        for group in (free, limited):
            if group:
                plan = self._plan(group)
                result = await self._make(plan, limited=group is limited)
                if result.mine < len(plan.generations):
                    await self._drop_lost_sessions(plan)
                else:
                    self._turns.learn(group, result)
                    await self._push(plan, result.taken)
        return bool(quotas)

    def _readable(self, lane: LaneId) -> bool:
        return lane in self._directory.names and not self._directory.is_paused(lane)

    def _plan(self, quotas: Sequence[LaneQuota]) -> Plan:
        sessions = {session for quota in quotas for session in quota.slots}
        generations, sequences = {}, {}
        for session_id in sessions:
            session = self._sessions.by_id[session_id]
            session.sequence += 1
            generations[session_id] = session.generation
            sequences[session_id] = session.sequence
        base = self._token
        self._token += sum(len(quota.slots) for quota in quotas)
        return Plan(self._broker, generations, sequences, base, quotas)

    async def _make(self, plan: Plan, *, limited: bool) -> AssignResult:
        names = self._directory.names
        try:
            if not limited:
                return await self._store.assign(plan, names)
            limits = {quota.lane: self._directory.limits_of(quota.lane) for quota in plan.quotas}
            keys = {limit for lane_limits in limits.values() for limit in lane_limits}
            members = {limit: self._directory.members(limit) for limit in keys}
            return await self._store.assign_limited(plan, names, limits, members)
        except BaseException:
            # The commit may have happened: these leases must be pushed or given back, never forgotten.
            self._doubtful.append(plan)
            raise

    async def _settle_doubts(self) -> None:
        """Give back leases of assigns whose commit is unknown: their tokens say which they are."""
        while self._doubtful:
            plan = self._doubtful[0]
            tokens = range(plan.token_base + 1, plan.token_base + sum(len(q.slots) for q in plan.quotas) + 1)
            for session_id in plan.generations:
                held = await self._session_store.leases(session_id)
                ends = [
                    RunEnd(lease.lease.task_id, lease.lease.token, Outcome.RELEASED, reason="commit unknown")
                    for lease in held
                    if lease.lease.token in tokens
                ]
                if ends:
                    await self._reports.end(ends)
            for quota in plan.quotas:
                self._turns.wake((quota.lane, rank) for rank, _ in quota.pairs)
            self._doubtful.pop(0)

    async def _drop_lost_sessions(self, plan: Plan) -> None:
        beats = [Beat(session_id, generation, 0) for session_id, generation in plan.generations.items()]
        for state in await self._session_store.ownership(self._broker, beats):
            session = self._sessions.by_id.get(state.session_id)
            if session is not None and (state.taken or state.over):
                self._sessions.leave(session)
                session.link.end(SessionTakenOver("the session is served elsewhere or has ended"))

    async def _push(self, plan: Plan, taken: Sequence[Taken]) -> None:
        """Note the leases, then send each session its runs in one go."""
        by_session: dict[SessionId, list[Taken]] = {}
        for each in taken:
            by_session.setdefault(each.run.session_id, []).append(each)
        sent: list[tuple[Session, list[Taken]]] = []
        for session_id, mine in by_session.items():
            session = self._sessions.by_id.get(session_id)
            if session is None or session.generation != plan.generations[session_id]:
                # It left between the commit and now: whoever owns it returns what it never received.
                continue
            pools = session.shape.lanes
            for each in mine:
                run = each.run
                session.add(run.token, run.task_id, run.sequence, pools.get(each.lane, ""))
            sent.append((session, mine))
        for session, mine in sent:
            runs = [each.run for each in mine]
            if any(each.size is not None for each in mine):
                runs = await self._with_payloads(plan, mine)
            session.link.push_assignments(plan.sequences[session.session_id], runs)

    async def _with_payloads(self, plan: Plan, taken: Sequence[Taken]) -> list[AssignedRun]:
        """Fetch the payloads that were too large to come with their assignment."""
        missing = [each.run.task_id for each in taken if each.size is not None]
        while True:
            try:
                payloads = await self._store.payloads(missing)
                break
            except StorageUnavailable:
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
        return [
            each.run if each.size is None else replace(each.run, payload=payloads[each.run.task_id])
            for each in taken
        ]
