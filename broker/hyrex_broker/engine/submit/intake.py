"""Intake: stores submitted tasks, and answers each after its commit."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Final

from hyrex_broker.domain.blocks import TaskBatch, TaskBlock, batch_of, beside, first_ones, halves, pairs_of
from hyrex_broker.domain.errors import InvalidField, StorageUnavailable, TooManyQueues
from hyrex_broker.domain.ids import HexId, task_id
from hyrex_broker.domain.model import LaneId
from hyrex_broker.engine.batching import Batcher, Cutting, StatementSlot, answered
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.growth import AT_ONCE
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.submit.answers import Answer, Others, by_block, joined, told
from hyrex_broker.engine.submit.bounded import Attempt, Bounded, Until, size_bytes
from hyrex_broker.engine.submit.handoff import Handoff
from hyrex_broker.engine.submit.keyed import NO_BUCKETS, KeyedSubmits
from hyrex_broker.engine.submit.parts import BlockPart, by_lane, lane_of, parted
from hyrex_broker.engine.submit.rooms import Rooms
from hyrex_broker.storage import partitions
from hyrex_broker.storage.debounce import DebounceStore
from hyrex_broker.storage.lanes import LaneKey
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.submit import SubmitStore

Batches = Batcher[TaskBlock, Others]
_NONE_MOVED: Final[Mapping[HexId, Answer]] = MappingProxyType({})


def _too_many(block: TaskBlock) -> TooManyQueues:
    return TooManyQueues(f"task {block.terms.name} of queue {block.terms.queue!r}", AT_ONCE)


class Intake:
    """Stores submitted tasks batch by batch, then wakes whoever moves them on."""

    def __init__(
        self,
        store: SubmitStore,
        handoff: Handoff,
        directory: Directory,
        dispatcher: Dispatcher,
        promoter: Promoter,
        rooms: Rooms,
        keyed: KeyedSubmits,
    ) -> None:
        self._store = store
        self._debounces = DebounceStore(store.database)
        self._keyed_store = keyed
        self._counters = store.counters
        self._handoff = handoff
        self._directory = directory
        self._dispatcher = dispatcher
        self._promoter = promoter
        cutting: Cutting[TaskBlock, Others] = Cutting(len, halves, joined)
        self._now: Batches = Batcher(
            self._store_now, self._refuse, size_bytes, cutting, self._counters.merged("submit")
        )
        self._waiting = Batcher(
            self._store_waiting, self._refuse, size_bytes, cutting, self._counters.merged("submit_waiting")
        )
        """What may wait for another's claim of a key shares no statement with what may not."""
        self._debounced = Batcher(
            self._store_debounced, self._refuse, size_bytes, cutting, self._counters.merged("debounce")
        )
        self._keyed = Batcher(
            self._store_keyed, self._refuse, size_bytes, cutting, self._counters.merged("submit_keyed")
        )
        """What may wait for the stripe of a concurrency key shares no statement with either (rule 42)."""
        self._bounded = Bounded(rooms, self._submit, self._classify, self._refuse, self._move)

    def sizes(self) -> dict[str, int]:
        """How many tasks and batches are here now, for the printed state (SIGUSR1)."""
        each = (
            ("", self._now),
            ("keyed or delayed, ", self._waiting),
            ("debounced, ", self._debounced),
            ("concurrency keys, ", self._keyed),
        )
        return {f"{kind}{what}": n for kind, batcher in each for what, n in batcher.sizes().items()}

    async def run(self) -> None:
        """Store batches until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._now.run())
            group.create_task(self._waiting.run())
            group.create_task(self._debounced.run())
            group.create_task(self._keyed.run())
            group.create_task(self._bounded.run())

    def submission(
        self, blocks: Sequence[TaskBlock], caller: Hashable = None, *, has_little: bool = False
    ) -> Attempt:
        """Stores validated tasks each time it is called, and returns what became of each block's, after the
        commit. Callers share the batches; `has_little`: this one is known to have little under way.

        After StorageUnavailable call the same again: what an earlier attempt sent may be stored still, so the
        room that it took is theirs.
        """
        bounded = self._directory.max_waiting
        if not bounded or not any(block.terms.queue in bounded for block in blocks):
            return partial(self._submit, blocks, caller, has_little=has_little)
        return self._bounded.submission(blocks, bounded, caller, has_little=has_little)

    async def _submit(
        self,
        blocks: Sequence[TaskBlock],
        caller: Hashable,
        *,
        has_little: bool,
        until: Until | None = None,
    ) -> list[Others]:
        fair = [block for block in blocks if block.fair_keys is not None]
        buckets = await self._keyed_store.buckets(fair) if fair else NO_BUCKETS
        wholes = [part for number, block in enumerate(blocks) for part in by_lane(number, block, buckets)]
        lanes = await self._lanes([part.block for part in wholes])
        answers: list[Others] = [{} for _ in blocks]
        kinds: dict[Batches, list[BlockPart]] = {
            self._now: [],
            self._waiting: [],
            self._debounced: [],
            self._keyed: [],
        }
        for whole in wholes:
            lane = lanes[lane_of(whole.block)]
            if lane is None:
                answers[whole.number] |= dict.fromkeys(whole.places, _too_many(whole.block))
                continue
            whole.block.lane = lane
            for part in parted(whole):
                kinds[self._batches(part.block)].append(part)
        added = [
            batches.add([part.block for part in mine], caller, has_little=has_little)
            for batches, mine in kinds.items()
            if mine
        ]
        stored = await answered(added if until is None else list(map(until, added)))
        parts = chain.from_iterable(kinds.values())
        for part, others in zip(parts, chain.from_iterable(stored), strict=True):
            if others:
                answers[part.number] |= {part.places[place]: answer for place, answer in others.items()}
        return answers

    def _batches(self, block: TaskBlock) -> Batches:
        """The batches of the statement that stores these tasks."""
        if block.concurrency_keys is not None:
            return self._keyed
        if not block.may_wait:
            return self._now
        return self._debounced if block.is_debounced else self._waiting

    async def _lanes(self, blocks: Sequence[TaskBlock]) -> dict[LaneKey, LaneId | None]:
        """The blocks' lanes; None for those that would be more than may be made now."""
        find = self._directory.find
        lanes = {each: find(*each) for each in set(map(lane_of, blocks))}
        if None in lanes.values():
            unknown = {each for each, lane in lanes.items() if lane is None}
            await self._directory.intern(unknown)
            lanes |= {each: find(*each) for each in unknown}
        return lanes

    async def _store_now(self, blocks: Sequence[TaskBlock], statement: StatementSlot) -> list[Others]:
        async def store(batch: TaskBatch) -> Collection[HexId]:
            placed = await self._handoff.submit(batch, statement, self._store.submit_handing_off)
            if placed is not None:
                self._wake(placed.ready)
                return batch.ids
            stored = await self._store.submit(batch)
            await statement.pass_on()
            if stored:
                self._wake({(lane, terms.rank) for lane, terms in pairs_of(batch)})
            return stored

        return await self._store_all(blocks, store)

    async def _store_waiting(self, blocks: Sequence[TaskBlock], statement: StatementSlot) -> list[Others]:
        async def store(batch: TaskBatch) -> Collection[HexId]:
            stored = await self._store.submit_waiting(batch)
            await statement.pass_on()
            if not all(stored.values()):
                self._wake({(lane, terms.rank) for lane, terms in pairs_of(batch)})
            if any(stored.values()):
                self._promoter.expect()
            return stored

        return await self._store_all(blocks, store)

    async def _store_debounced(self, blocks: Sequence[TaskBlock], statement: StatementSlot) -> list[Others]:
        moved: dict[HexId, Answer] = {}

        async def store(batch: TaskBatch) -> Collection[HexId]:
            done = await self._debounces.submit(batch)
            await statement.pass_on()
            moved.update(done.moved)
            self._promoter.expect()
            return done.stored

        return await self._store_all(blocks, store, moved)

    async def _store_keyed(self, blocks: Sequence[TaskBlock], statement: StatementSlot) -> list[Others]:
        refused: dict[HexId, Answer] = {}

        async def store(batch: TaskBatch) -> Collection[HexId]:
            done = await self._keyed_store.submit(batch, statement)
            refused.update(done.refused)
            self._wake(done.ready)
            if done.has_later:
                self._promoter.expect()
            return done.stored

        return await self._store_all(blocks, store, refused)

    async def _store_all(
        self,
        blocks: Sequence[TaskBlock],
        store: Callable[[TaskBatch], Awaitable[Collection[HexId]]],
        moved: Mapping[HexId, Answer] = _NONE_MOVED,
    ) -> list[Others]:
        """Store blocks by a statement that returns the ids of what it stored, until all is decided.

        `moved`: answers that the statement gave for what it did not store.
        """
        batch = batch_of(blocks)
        answers: dict[int, Answer] = {}
        pending = batch
        places: Sequence[int] = range(len(batch.ids))
        while pending.ids:
            firsts = first_ones(pending)
            stored = await store(firsts)
            self._count(firsts, stored)
            if len(stored) == len(pending.ids):
                break
            missing = beside(pending, set(stored))
            known = await self._known(pending.at(missing), moved)
            found = {places[place]: answer for place, answer in zip(missing, known, strict=True)}
            answers |= {place: answer for place, answer in found.items() if answer is not None}
            places = [place for place, answer in found.items() if answer is None]
            pending = batch.at(places)
        return by_block(blocks, answers) if answers else [{} for _ in blocks]

    def _count(self, batch: TaskBatch, stored: Collection[HexId]) -> None:
        """Count what was stored of a batch in which each id stands once."""
        count = len(batch.ids)
        if len(stored) < count:
            known = set(stored)
            batch = batch.at([place for place, digits in enumerate(batch.ids) if digits in known])
            count = len(batch.ids)
        lanes = batch.lanes
        self._counters.stored(Counter(lanes) if len(lanes) > 1 else dict.fromkeys(lanes, count))

    async def _known(self, missing: TaskBatch, moved: Mapping[HexId, Answer]) -> list[Answer | None]:
        if all(digits in moved for digits in missing.ids):
            return [moved[digits] for digits in missing.ids]
        known = await self._classify(missing)
        return [moved.get(digits, answer) for digits, answer in zip(missing.ids, known, strict=True)]

    async def _move(self, batch: TaskBatch) -> Mapping[HexId, Answer]:
        moved = await self._debounces.move(batch)
        if moved:
            self._promoter.expect()
        return moved

    async def _classify(self, missing: TaskBatch) -> list[Answer | None]:
        """Answers for what a statement did not store; None for what is still undecided (rule 4)."""
        known = await self._store.classify(missing)
        answers: list[Answer | None] = []
        undecided: set[HexId] = set()
        for digits, digest, found in zip(missing.ids, missing.digests, known, strict=True):
            answer = told(digits, digest, found) if digits not in undecided else None
            if answer is None:
                undecided.add(digits)  # and whatever has this id and came later
            answers.append(answer)
        return answers

    def _wake(self, ready: Collection[tuple[LaneId, int]]) -> None:
        if ready:
            self._dispatcher.wake(set(ready), local=True)

    async def _refuse(self, block: TaskBlock, error: StatementRefused) -> Others:
        """The answer for the task because of which the database refused a batch. Raises StorageUnavailable if
        only a partition is missing, as after days in which no broker ran."""
        refused = task_id(block.ids[0])
        if error.lacks_partition and partitions.is_near(refused):
            raise StorageUnavailable("a day has no partition yet; it is being made")
        return {0: InvalidField("task", refused, f"the database refused it ({error.sqlstate}: {error})")}
