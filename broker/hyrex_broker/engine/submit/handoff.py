"""Direct hand-off: tasks that find free capacity and no backlog are stored and leased in one statement,
and go to their workers from memory."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import AssignedRun, LaneId, SessionId, TaskId
from hyrex_broker.engine.batching import StatementSlot
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.lease_placer import Placer
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.storage.assign import LaneQuota, Plan, Taken
from hyrex_broker.storage.submit import Entry, HandedOff, SubmitStore

_LARGE_BATCH: Final = 100
_LONGEST_WAIT_S: Final = 0.1
"""What a batch of a thousand waits at 10,000 runs a second."""


class Handoff:
    """Tries to place a batch at once; what finds no slot is ready as usual."""

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
        """Store plain entries (sorted by id); None if nothing could be handed off and nothing was done.

        Returns the ids stored now: True for those that went to a worker.
        """
        if any(entry.task.terms.extras is not None for entry in entries):
            return None
        quotas = await self._quotas(Counter(entry.lane for entry in entries))
        if not quotas or self._placer.has_unresolved:
            return None  # the database was away: those plans are settled before there are more
        with self._placer.plan(quotas) as plan:
            handed = await self._store.submit_handing_off(entries, plan)
            await statement.pass_on()
            taken = self._taken(entries, plan, handed)
            self._placer.push(plan, taken)
            lanes = {each.lane for each in taken}
            self._dispatcher.mark_lanes_empty(
                [quota for quota in quotas if quota.lane in lanes], handed.stored_at
            )
        return {task_id: slot is not None for task_id, slot in handed.slots.items()}

    async def _quotas(self, counts: Mapping[LaneId, int]) -> list[LaneQuota]:
        """Slots for these tasks. A large batch that finds too few waits a moment for those that leases leave
        as they end, if they end fast enough."""
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

    def _taken(self, entries: Sequence[Entry], plan: Plan, handed: HandedOff) -> list[Taken]:
        sessions = [session for quota in plan.quotas for session in quota.slots]
        names, stored_at = self._directory.names, handed.stored_at
        taken = []
        for entry in entries:
            slot = handed.slots.get(entry.task.task_id)
            if slot is not None:
                run = _run(entry, names[entry.lane], plan, sessions[slot - 1], slot, stored_at)
                taken.append(Taken(run, entry.lane, stored_at, None))
        return taken


def _run(
    entry: Entry, names: tuple[str, str], plan: Plan, session: SessionId, slot: int, stored_at: datetime
) -> AssignedRun:
    task, terms = entry.task, entry.task.terms
    queue, name = names
    return AssignedRun(
        task.task_id, plan.tokens[slot - 1], session, plan.sequences[session], name, queue,
        task.payload, None, None, None, 0, 0, terms.max_retries, terms.rank, terms.timeout_ms, task.parent_id,
        task.root_id, stored_at, False,
    )  # fmt: skip
