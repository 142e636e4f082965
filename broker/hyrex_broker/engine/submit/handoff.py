"""Direct hand-off: tasks that find free capacity and no backlog are stored and leased in one statement,
and go to their workers from memory."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise, repeat
from typing import Final, TypeVar, cast

from hyrex_broker.domain.assigned import AssignedBlock, SharedTerms, column
from hyrex_broker.domain.blocks import NO_TRACE, TaskBatch, pairs_of, stretched
from hyrex_broker.domain.counters import Counters
from hyrex_broker.domain.ids import ABSENT, HexId, hex_id
from hyrex_broker.domain.model import NOTHING_CARRIED, LaneId, SessionId, TaskId, Token
from hyrex_broker.engine.batching import StatementSlot
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.lease_placer import Placer
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.storage.assign import LaneQuota, Plan
from hyrex_broker.storage.assigned import microseconds
from hyrex_broker.storage.keyed import Placing
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.submit import HandedOff, is_repetition

Value = TypeVar("Value")
Stores = Callable[[TaskBatch, Plan, Sequence[int | None]], Awaitable[HandedOff | None]]
"""Stores a batch and leases it to slots (see `SubmitStore.submit_handing_off`); None: nothing was done."""

_SEATED: Final = int(Placing.READY)
"""A plain number: it is compared with one for each task."""
_LARGE_BATCH: Final = 100
_LONGEST_WAIT_S: Final = 0.1
"""What a batch of a thousand waits at 10,000 runs a second."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What a statement made of a batch, and lane and rank of what is ready."""

    handed: HandedOff
    ready: Collection[tuple[LaneId, int]]


class Handoff:
    """Tries to place a batch at once; what finds no slot is ready as usual."""

    def __init__(
        self, counters: Counters, placer: Placer, dispatcher: Dispatcher, directory: Directory
    ) -> None:
        self._counters = counters
        self._placer = placer
        self._dispatcher = dispatcher
        self._directory = directory

    async def submit(self, batch: TaskBatch, statement: StatementSlot, store: Stores) -> Placed | None:
        """Store tasks by the statement of `store`, which may let some of them wait; None if nothing could be
        handed off and nothing was done."""
        counts = Counter(batch.lanes) if len(batch.lanes) > 1 else {batch.lanes[0]: len(batch)}
        quotas = await self._quotas(counts)
        if not quotas or self._placer.has_unresolved:
            return None  # the database was unreachable: settle the plans of that time before making new ones
        try:
            with self._placer.plan(quotas) as plan:
                slots = _slots(batch, quotas)
                handed = await store(batch, plan, slots)
                if handed is None:
                    return None
                await statement.pass_on()
                slots = _leased(batch, slots, handed)
                blocks = self._blocks(batch, plan, slots, handed.stored_at)
                self._placer.push(plan, blocks)
        except StatementRefused as error:
            if is_repetition(error):
                return None
            raise
        for block in blocks:
            self._counters.handed(block.lane, len(block))
        lanes = {block.lane for block in blocks}
        self._dispatcher.mark_lanes_empty([each for each in quotas if each.lane in lanes], handed.stored_at)
        return Placed(handed, _ready(batch, slots, handed.admissions) if None in slots else ())

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

    def _blocks(
        self, batch: TaskBatch, plan: Plan, slots: Sequence[int | None], at: datetime
    ) -> list[AssignedBlock]:
        """What went to each session, together where it shares its terms."""
        sessions = [session for quota in plan.quotas for session in quota.slots]
        tokens = [None if slot is None else plan.tokens[slot] for slot in slots]
        count = len(batch)
        if len(plan.generations) == len(batch.lanes) == len(batch.terms) == 1 and None not in slots:
            return [self._block(batch, plan, sessions[0], cast("list[Token]", tokens), at)]
        lanes, terms = stretched(batch.lanes, count), stretched(batch.terms, count)
        placed: dict[tuple[SessionId, LaneId, int], list[int]] = {}
        for place, slot in enumerate(slots):
            if slot is not None:
                key = sessions[slot], lanes[place], id(terms[place])
                placed.setdefault(key, []).append(place)
        blocks = []
        for (session, _, _), places in placed.items():
            mine = batch if len(places) == count else batch.at(places)
            of_mine = cast("list[Token]", [tokens[place] for place in places])
            blocks.append(self._block(mine, plan, session, of_mine, at))
        return blocks

    def _block(
        self, batch: TaskBatch, plan: Plan, session: SessionId, tokens: Sequence[Token], at: datetime
    ) -> AssignedBlock:
        lane, terms = batch.lanes[0], batch.terms[0]
        queue, name = self._directory.names[lane]
        carried = NOTHING_CARRIED if terms.extras is None else terms.extras.carried
        shared = SharedTerms(name, queue, terms.rank, terms.max_retries, terms.timeout_ms, carried=carried)
        return AssignedBlock(
            session,
            plan.sequences[session],
            lane,
            shared,
            batch.ids,
            tokens,
            batch.payloads,
            submitted_us=(microseconds(at),),
            parent_ids=_column(_digits(batch.parents), ABSENT),
            root_ids=_column(_digits(batch.roots), ABSENT),
            headers=_column(batch.headers, {}),
            trace_contexts=_column(batch.trace_contexts, NO_TRACE),
        )


def _slots(batch: TaskBatch, quotas: Sequence[LaneQuota]) -> Sequence[int | None]:
    """Numbers of the tasks' slots: the first of each lane, by rank, get that lane's. None: it has none."""
    offsets = [0, *accumulate(len(quota.slots) for quota in quotas)]
    count = len(batch)
    if len(batch.lanes) == len(batch.terms) == 1:
        return [*range(min(count, offsets[1])), *repeat(None, count - offsets[1])]
    numbers = {quota.lane: range(*pair) for quota, pair in zip(quotas, pairwise(offsets), strict=True)}
    waiting = {lane: iter(slots) for lane, slots in numbers.items()}
    ranked = [(lane, terms.rank) for lane, terms in pairs_of(batch)]
    slots: list[int | None] = [None] * count
    for place in sorted(range(count), key=lambda place: ranked[place][1]):
        slots[place] = next(waiting.get(ranked[place][0], iter(())), None)
    return slots


def _leased(batch: TaskBatch, slots: Sequence[int | None], handed: HandedOff) -> Sequence[int | None]:
    """The slots but for those of lanes of which nothing was leased, and of tasks that have no seat."""
    admissions, unleased = handed.admissions, handed.unleased
    if admissions is not None and admissions.count(_SEATED) < len(admissions):
        slots = [slot if each == _SEATED else None for slot, each in zip(slots, admissions, strict=True)]
    if not unleased:
        return slots
    lanes = stretched(batch.lanes, len(batch))
    return [None if lane in unleased else slot for lane, slot in zip(lanes, slots, strict=True)]


def _ready(
    batch: TaskBatch, slots: Sequence[int | None], admissions: Sequence[int] | None
) -> set[tuple[LaneId, int]]:
    """Lane and rank of what was not leased, and is ready."""
    count = len(batch)
    pairs = stretched([(lane, terms.rank) for lane, terms in pairs_of(batch)], count)
    return {
        pair
        for pair, slot, admission in zip(pairs, slots, admissions or [_SEATED] * count, strict=True)
        if slot is None and admission == _SEATED
    }


def _digits(task_ids: Sequence[TaskId | None]) -> list[HexId | None]:
    return [None if each is None else hex_id(each) for each in task_ids]


def _column(values: Sequence[Value | None], default: Value) -> Sequence[Value]:
    if values.count(None) == len(values):  # mostly
        return ()
    return column([default if value is None else value for value in values], default)
