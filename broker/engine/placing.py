"""Placing leases: plans with fencing tokens and reserved slots, and what follows from their commit.

Shared by the dispatcher's assigns and the intake's direct hand-off.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from broker.domain.errors import SessionTakenOver, StorageUnavailable
from broker.domain.model import AssignedRun, BrokerId, Outcome, RunEnd, SessionId
from broker.engine.sessions import Session, Sessions
from broker.storage.assign import AssignStore, LaneQuota, Plan, Taken
from broker.storage.report import ReportStore
from broker.storage.sessions import Beat, SessionStore

log = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE_S: Final = 0.2


class Placer:
    """Makes plans, pushes what they took, and settles those whose commit is unknown."""

    def __init__(
        self,
        assigns: AssignStore,
        reports: ReportStore,
        session_store: SessionStore,
        sessions: Sessions,
        broker: BrokerId,
    ) -> None:
        self._assigns = assigns
        self._reports = reports
        self._session_store = session_store
        self._sessions = sessions
        self._broker = broker
        # Random per start, then counted: never the token of an earlier life (rule 9).
        self._token = secrets.randbits(62)
        self._doubtful: list[Plan] = []

    @contextmanager
    def plan(self, quotas: Sequence[LaneQuota]) -> Iterator[Plan]:
        """A plan whose slots are reserved until the block ends.

        If the block fails, the commit may have happened all the same: the plan is settled later.
        """
        plan = self._number(quotas)
        reserved = self._reserve(quotas)
        try:
            yield plan
        except BaseException:
            self._doubtful.append(plan)
            raise
        finally:
            for (session, pool), count in reserved.items():
                session.reserve(pool, -count)

    def _number(self, quotas: Sequence[LaneQuota]) -> Plan:
        generations, sequences = {}, {}
        for session_id in {session for quota in quotas for session in quota.slots}:
            session = self._sessions.by_id[session_id]
            session.sequence += 1
            generations[session_id] = session.generation
            sequences[session_id] = session.sequence
        base = self._token
        self._token += sum(len(quota.slots) for quota in quotas)
        return Plan(self._broker, generations, sequences, base, quotas)

    def _reserve(self, quotas: Sequence[LaneQuota]) -> Counter[tuple[Session, str]]:
        reserved: Counter[tuple[Session, str]] = Counter()
        for quota in quotas:
            for session_id, count in Counter(quota.slots).items():
                session = self._sessions.by_id[session_id]
                pool = session.shape.lanes.get(quota.lane, "")
                session.reserve(pool, count)
                reserved[session, pool] += count
        return reserved

    async def push(self, plan: Plan, taken: Sequence[Taken]) -> None:
        """Note the leases, then send each session its runs in one go. Only after the commit."""
        by_session: dict[SessionId, list[Taken]] = {}
        for each in taken:
            by_session.setdefault(each.run.session_id, []).append(each)
        for session_id, mine in list(by_session.items()):
            session = self._sessions.by_id.get(session_id)
            if session is None or session.generation != plan.generations[session_id]:
                # It left between the commit and now: whoever owns it returns what it never received.
                del by_session[session_id]
                continue
            pools = session.shape.lanes
            for each in mine:
                run = each.run
                session.add(run.token, run.task_id, run.sequence, pools.get(each.lane, ""))
        for session_id, mine in by_session.items():
            session = self._sessions.by_id.get(session_id)
            if session is not None:
                runs = [each.run for each in mine]
                if any(each.size is not None for each in mine):
                    runs = await self._with_payloads(mine)
                session.link.push_assignments(plan.sequences[session_id], runs)

    async def _with_payloads(self, taken: Sequence[Taken]) -> list[AssignedRun]:
        """Fetch the payloads that were too large to come with their assignment."""
        missing = [each.run.task_id for each in taken if each.size is not None]
        while True:
            try:
                payloads = await self._assigns.payloads(missing)
                break
            except StorageUnavailable:
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
        return [
            each.run if each.size is None else replace(each.run, payload=payloads[each.run.task_id])
            for each in taken
        ]

    async def settle_doubts(self) -> list[LaneQuota]:
        """Give back leases of plans whose commit is unknown: their tokens say which they are.

        Returns the quotas of those plans: their lanes may have work. Raises StorageUnavailable.
        """
        settled: list[LaneQuota] = []
        while self._doubtful:
            plan = self._doubtful[0]
            count = sum(len(quota.slots) for quota in plan.quotas)
            tokens = range(plan.token_base + 1, plan.token_base + count + 1)
            for session_id in plan.generations:
                await self._give_back(session_id, tokens)
            settled += plan.quotas
            self._doubtful.pop(0)
        return settled

    async def _give_back(self, session_id: SessionId, tokens: range) -> None:
        ends = [
            RunEnd(held.lease.task_id, held.lease.token, Outcome.RELEASED, reason="commit unknown")
            for held in await self._session_store.leases(session_id)
            if held.lease.token in tokens
        ]
        if ends:
            await self._reports.end(ends)

    async def drop_lost_sessions(self, plan: Plan) -> None:
        """Some session of the plan is not this broker's any more: part with it."""
        beats = [Beat(session_id, generation, 0) for session_id, generation in plan.generations.items()]
        for state in await self._session_store.ownership(self._broker, beats):
            session = self._sessions.by_id.get(state.session_id)
            if session is not None and (state.taken or state.over):
                self._sessions.leave(session)
                session.link.end(SessionTakenOver("the session is served elsewhere or has ended"))
