"""Makes plans for leases, with fencing tokens and reserved slots, and sends the runs after the commit.

Used by the dispatcher's assigns and by the direct hand-off.
"""

import logging
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final, cast

from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.errors import SessionTakenOver, StorageUnavailable
from hyrex_broker.domain.model import BrokerId, LaneId, Outcome, RunEnd, SessionId, Token
from hyrex_broker.engine.dispatch.large_payloads import LargePayloads
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.storage.assign import LaneQuota, Plan
from hyrex_broker.storage.report import ReportStore
from hyrex_broker.storage.sessions import Beat, SessionStore
from hyrex_broker.storage.settings import LONGEST_STATEMENT
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

LATEST_COMMIT_S: Final = LONGEST_STATEMENT.total_seconds()


@dataclass(slots=True, eq=False)
class UnresolvedPlan:
    """A plan of which it is unknown whether it was committed. `due`: when to look for its leases (0: now)."""

    plan: Plan
    sessions: Sequence[ServedSession]
    due: float = 0.0


def fresh_tokens(parts: Sequence[tuple[int, bool]]) -> list[Token]:
    """Tokens of 63 random bits each, so that no token can be guessed from others (rule 9).

    `parts`: how many, and whether their lane is followed. The lowest bit says so: by it the sweep finds the
    ends of such runs among all others.
    """
    count = sum([size for size, _ in parts])
    random = iter(struct.unpack(f"={count}q", os.urandom(8 * count)))
    tokens: list[int] = []
    for size, followed in parts:
        some = islice(random, size)
        tokens += [each | 1 for each in some] if followed else [each & -2 for each in some]
    return cast("list[Token]", tokens)


def _all_sent(plan: Plan, sessions: Sequence[ServedSession]) -> None:
    """Note that nothing of the plan is unsent, so that receipts may cover its sequences."""
    for session in sessions:
        session.unsent.discard(plan.sequences[session.session_id])


def _stored_nothing(error: BaseException) -> bool:
    """Return True if the database has answered, and has undone what the statement did."""
    return isinstance(error, StatementRefused) or (isinstance(error, StorageUnavailable) and error.conflict)


def _give_up(reserved: Mapping[tuple[ServedSession, str], int]) -> None:
    for (session, pool), count in reserved.items():
        session.reserve(pool, -count)


class Placer:
    """Makes plans, sends the runs that they took, and settles plans whose commit is unknown."""

    def __init__(
        self,
        unread: LargePayloads,
        reports: ReportStore,
        session_store: SessionStore,
        sessions: Sessions,
        broker: BrokerId,
    ) -> None:
        self._reports = reports
        self._session_store = session_store
        self._sessions = sessions
        self._broker = broker
        self._unresolved: list[UnresolvedPlan] = []
        self._large_payloads = unread

    async def run(self) -> None:
        """Send runs with large payloads until cancelled."""
        await self._large_payloads.run()

    def sizes(self) -> dict[str, int]:
        """How much is here now, for the printed state (SIGUSR1)."""
        return {"unresolved plans": len(self._unresolved), "waiting for payloads": self._large_payloads.count}

    @property
    def has_unresolved(self) -> bool:
        """True if there are plans whose commit is unknown."""
        return bool(self._unresolved)

    @contextmanager
    def plan(self, quotas: Sequence[LaneQuota]) -> Iterator[Plan]:
        """Make a plan whose slots are reserved until the block ends.

        If the block raises, it may have been committed nevertheless: the plan is settled later. But if the
        database has answered that it stored nothing, there is nothing to settle.
        """
        sessions = [self._sessions.by_id[each] for each in {each for quota in quotas for each in quota.slots}]
        plan = self._number(quotas, sessions)
        reserved = self._reserve(quotas)
        try:
            yield plan
        except BaseException as error:
            if _stored_nothing(error):
                _all_sent(plan, sessions)
            else:
                self._unresolved.append(UnresolvedPlan(plan, sessions))
            raise
        else:
            _all_sent(plan, sessions)
        finally:
            _give_up(reserved)

    @contextmanager
    def keeping(self, quotas: Sequence[LaneQuota]) -> Iterator[None]:
        """Keep the slots of quotas that are assigned afterwards, until the block ends."""
        reserved = self._reserve(quotas)
        try:
            yield
        finally:
            _give_up(reserved)

    def still_free(self, quotas: Sequence[LaneQuota]) -> list[LaneQuota]:
        """What is left of quotas that were planned a moment ago: sessions leave, and take less."""
        free: dict[tuple[SessionId, str], int] = {}
        left = [
            LaneQuota(
                quota.lane, quota.pairs, [each for each in quota.slots if self._take(each, quota.lane, free)]
            )
            for quota in quotas
        ]
        return [quota for quota in left if quota.slots]

    def _take(self, session_id: SessionId, lane: LaneId, free: dict[tuple[SessionId, str], int]) -> bool:
        session = self._sessions.by_id.get(session_id)
        pool = None if session is None else session.profile.lanes.get(lane)
        if session is None or pool is None:
            return False
        key = (session_id, pool)
        free[key] = free.get(key, session.free(pool)) - 1
        return free[key] >= 0

    def _number(self, quotas: Sequence[LaneQuota], sessions: Sequence[ServedSession]) -> Plan:
        generations = {session.session_id: session.generation for session in sessions}
        sequences = {session.session_id: session.next_sequence() for session in sessions}
        followed = self._sessions.may_be_followed
        tokens = fresh_tokens([(len(quota.slots), followed(quota.lane)) for quota in quotas])
        return Plan(self._broker, generations, sequences, tokens, quotas)

    def _reserve(self, quotas: Sequence[LaneQuota]) -> dict[tuple[ServedSession, str], int]:
        reserved: dict[tuple[ServedSession, str], int] = {}
        for quota in quotas:
            slots = quota.slots
            for session_id, count in Counter(slots).items() if len(slots) != 1 else ((slots[0], 1),):
                session = self._sessions.by_id[session_id]
                pool = session.profile.lanes.get(quota.lane, "")
                session.reserve(pool, count)
                reserved[session, pool] = reserved.get((session, pool), 0) + count
        return reserved

    def push(self, plan: Plan, blocks: Sequence[AssignedBlock]) -> None:
        """Note the leases, then send each session its runs, those with large payloads as these are read.

        Call it only after the commit.
        """
        by_session: dict[SessionId, list[AssignedBlock]] = {}
        for block in blocks:
            by_session.setdefault(block.session_id, []).append(block)
        placed: list[tuple[ServedSession, list[AssignedBlock]]] = []
        families = self._sessions.families
        for session_id, mine in by_session.items():
            session = self._sessions.by_id.get(session_id)
            if session is None or session.generation != plan.generations[session_id]:
                # It left since the commit: the broker that owns it now returns what it never received.
                continue
            pools = session.profile.lanes
            for block in mine:
                session.add_all(block.tokens, block.task_ids, block.sequence, pools.get(block.lane, ""))
                if block.lane in families:
                    session.count(block.lane, block.tokens)
            placed.append((session, mine))
        for session, mine in placed:
            sequence = plan.sequences[session.session_id]
            if not all(map(self._large_payloads.is_whole, mine)):
                self._large_payloads.begin(session, sequence, mine)
                continue
            session.push(mine, last_of=sequence)

    async def settle_unresolved(self) -> list[LaneQuota]:
        """Give back the leases of plans whose commit is unknown; their tokens identify them.

        Each plan is looked at twice: after its connection is lost, a statement may still commit until its
        timeout has passed, so also after the first look.
        Returns the quotas of those plans, since their lanes may have work. Raises StorageUnavailable.
        """
        due = [each for each in self._unresolved if each.due <= time.monotonic()]
        if not due:
            return []
        sessions = sorted({session_id for each in due for session_id in each.plan.generations})
        await self._give_back(sessions, {token for each in due for token in each.plan.tokens})
        for each in due:
            if each.due:
                _all_sent(each.plan, each.sessions)
                self._unresolved.remove(each)
            else:
                each.due = time.monotonic() + LATEST_COMMIT_S
        return [quota for each in due for quota in each.plan.quotas]

    async def _give_back(self, sessions: Sequence[SessionId], unresolved: Set[Token]) -> None:
        ends = [
            RunEnd(
                held.lease.task_id,
                held.lease.token,
                held.session_id,
                Outcome.RELEASED,
                reason="commit unknown",
            )
            for held in await self._session_store.leases(sessions)
            if held.lease.token in unresolved
        ]
        if ends:
            await self._reports.end(ends)

    async def drop_lost_sessions(self, plan: Plan) -> None:
        """Drop the sessions of a refused plan that this broker does not own any more."""
        beats = [Beat(session_id, generation, 0) for session_id, generation in plan.generations.items()]
        for state in await self._session_store.ownership(self._broker, beats):
            session = self._sessions.by_id.get(state.session_id)
            if session is not None and (state.taken or state.ended):
                self._sessions.leave(session)
                session.link.end(SessionTakenOver("the session is served elsewhere or has ended"))
