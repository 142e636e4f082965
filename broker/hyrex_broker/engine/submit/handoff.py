"""Direct hand-off: tasks for which workers have free slots and nothing waits are stored and leased in one
statement. Their payloads go to the workers from memory, without being read back."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from hyrex_broker.domain.assigned import AssignedBlock, SharedTerms, column
from hyrex_broker.domain.ids import ABSENT, HexId, hex_id, hex_ids
from hyrex_broker.domain.model import LaneId, SessionId, TaskId
from hyrex_broker.engine.batching import StatementSlot
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.lease_placer import Placer
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.storage.assign import LaneQuota, Plan
from hyrex_broker.storage.assigned import microseconds
from hyrex_broker.storage.submit import Entry, HandedOff, SubmitStore

_LARGE_BATCH: Final = 100
_LONGEST_WAIT_S: Final = 0.1
"""How long a thousand slots take to become free at 10,000 runs a second."""


class Handoff:
    """Tries to hand a batch of tasks to workers; tasks without a slot become ready, as usual."""

    def __init__(
        self, store: SubmitStore, placer: Placer, dispatcher: Dispatcher, directory: Directory
    ) -> None:
        self._store = store
        self._placer = placer
        self._dispatcher = dispatcher
        self._directory = directory

    async def submit(
        self, entries: Sequence[Entry], statement: StatementSlot
    ) -> Mapping[TaskId, bool] | None:
        """Store plain entries, which must be sorted by id.

        Return the ids that were stored, with True for those that went to a worker; None if no task could be
        handed off, and nothing was stored.
        """
        if any(entry.task.terms.extras is not None for entry in entries):
            return None
        quotas = await self._quotas(Counter(entry.lane for entry in entries))
        if not quotas or self._placer.has_unresolved:
            return None  # the database was unreachable: settle the plans of that time before making new ones
        with self._placer.plan(quotas) as plan:
            handed = await self._store.submit_handing_off(entries, plan)
            await statement.pass_on()
            blocks = self._blocks(entries, plan, handed)
            self._placer.push(plan, blocks)
            lanes = {block.lane for block in blocks}
            self._dispatcher.mark_lanes_empty(
                [quota for quota in quotas if quota.lane in lanes], handed.stored_at
            )
        return {task_id: slot is not None for task_id, slot in handed.slots.items()}

    async def _quotas(self, counts: Mapping[LaneId, int]) -> list[LaneQuota]:
        """Reserve slots for these tasks. If there are too few for a large batch, wait a moment for leases to
        end, if they end fast enough."""
        dispatcher = self._dispatcher
        if sum(counts.values()) < _LARGE_BATCH:
            return dispatcher.reserve_slots(counts)
        ends_at = time.monotonic() + _LONGEST_WAIT_S
        while True:
            quotas = dispatcher.reserve_slots(counts)
            lacking = sum(counts[lane] for lane in dispatcher.lanes_open_to_handoff(counts))
            lacking -= sum(len(quota.slots) for quota in quotas)
            left_s = ends_at - time.monotonic()
            if not 0 < lacking < dispatcher.release_rate.per_s * left_s:
                return quotas
            if not await dispatcher.release_rate.more(left_s):
                return dispatcher.reserve_slots(counts)

    def _blocks(self, entries: Sequence[Entry], plan: Plan, handed: HandedOff) -> list[AssignedBlock]:
        """What went to each session, together where it shares its terms."""
        sessions = [session for quota in plan.quotas for session in quota.slots]
        placed: dict[tuple[SessionId, LaneId, int], list[tuple[Entry, int]]] = {}
        for entry in entries:
            slot = handed.slots.get(entry.task.task_id)
            if slot is not None:
                key = sessions[slot - 1], entry.lane, id(entry.task.terms)
                placed.setdefault(key, []).append((entry, slot))
        return [
            _block(members, self._directory.names[lane], plan, session, handed.stored_at)
            for (session, lane, _), members in placed.items()
        ]


def _block(
    members: Sequence[tuple[Entry, int]], names: tuple[str, str], plan: Plan, session: SessionId, at: datetime
) -> AssignedBlock:
    tasks, terms = [entry.task for entry, _ in members], members[0][0].task.terms
    queue, name = names
    return AssignedBlock(
        session,
        plan.sequences[session],
        members[0][0].lane,
        SharedTerms(name, queue, terms.rank, terms.max_retries, terms.timeout_ms),
        hex_ids([task.task_id for task in tasks]),
        [plan.tokens[slot - 1] for _, slot in members],
        [task.payload for task in tasks],
        submitted_us=(microseconds(at),),
        parent_ids=_relatives([task.parent_id for task in tasks]),
        root_ids=_relatives([task.root_id for task in tasks]),
    )


def _relatives(task_ids: Sequence[TaskId | None]) -> Sequence[HexId]:
    return column([ABSENT if each is None else hex_id(each) for each in task_ids], ABSENT)
