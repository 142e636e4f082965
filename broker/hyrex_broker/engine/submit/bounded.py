"""Submits to queues of which some have a maximum of what may wait.

What has room is stored as everything else. Of the rest, what is stored already is answered as such; many such
questions of many callers share one statement, so that refusing costs less than storing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from hyrex_broker.domain.blocks import TaskBatch, TaskBlock, at_places, batch_of, first_ones, halves
from hyrex_broker.domain.ids import HexId
from hyrex_broker.engine.batching import Batcher, Cutting, StatementSlot
from hyrex_broker.engine.submit.answers import Answer, Others, by_block, joined
from hyrex_broker.engine.submit.rooms import Rooms, Taken
from hyrex_broker.storage.sqlstates import StatementRefused

Attempt = Callable[[], Coroutine[Any, Any, list[Others]]]
"""Stores a request's tasks. Raises StorageUnavailable; it may be called again then."""
Until = Callable[["asyncio.Future[Sequence[Others]]"], "asyncio.Future[Sequence[Others]]"]


class SubmitsParts(Protocol):
    """Stores validated tasks; `until` is told the futures of their batches, and gives those to wait for."""

    async def __call__(
        self,
        blocks: Sequence[TaskBlock],
        caller: Hashable,
        *,
        has_little: bool,
        until: Until | None = None,
    ) -> list[Others]: ...


def size_bytes(block: TaskBlock) -> int:
    """Of a block, for a Batcher."""
    return block.size_bytes


class _BoundedRequest:
    """One request's tasks: the room for them is taken once, however often they are tried."""

    __slots__ = ("blocks", "bounded", "caller", "has_little", "taken")

    def __init__(
        self, blocks: Sequence[TaskBlock], bounded: Mapping[str, int], caller: Hashable, *, has_little: bool
    ) -> None:
        self.blocks = blocks
        self.bounded = bounded
        self.caller = caller
        self.has_little = has_little
        self.taken: Taken | None = None


class Bounded:
    """Stores tasks as far as there is room for them."""

    def __init__(
        self,
        rooms: Rooms,
        submit: SubmitsParts,
        classify: Callable[[TaskBatch], Awaitable[Sequence[Answer | None]]],
        refused: Callable[[TaskBlock, StatementRefused], Awaitable[Others]],
        move: Callable[[TaskBatch], Awaitable[Mapping[HexId, Answer]]],
    ) -> None:
        """`classify`: the answers for tasks that are stored already, None for others. `move`: the answers for
        tasks that move another one by their debounce key; these are not stored, so they need no room."""
        self._rooms = rooms
        self._submit = submit
        self._classify = classify
        self._move = move
        cutting: Cutting[TaskBlock, Others] = Cutting(len, halves, joined)
        self._known: Batcher[TaskBlock, Others] = Batcher(self._look_up, refused, size_bytes, cutting)
        self._moving: Batcher[TaskBlock, Others] = Batcher(self._move_others, refused, size_bytes, cutting)

    def submission(
        self, blocks: Sequence[TaskBlock], bounded: Mapping[str, int], caller: Hashable, *, has_little: bool
    ) -> Attempt:
        """See `Intake.submission`. `bounded`: the maximum of each queue that has one."""
        return partial(self._attempt, _BoundedRequest(blocks, bounded, caller, has_little=has_little))

    async def run(self) -> None:
        """Look for room, and for what is stored already, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rooms.run())
            group.create_task(self._known.run())
            group.create_task(self._moving.run())

    async def _attempt(self, request: _BoundedRequest) -> list[Others]:
        if request.taken is None:
            request.taken = await self._rooms.taken(request.blocks, request.bounded)
        else:
            request.taken.hold()
        try:
            answers = await self._stored(request, request.taken)
        finally:
            request.taken.let_go()
        await self._refuse(request, request.taken.counts, answers)
        return answers

    async def _stored(self, request: _BoundedRequest, taken: Taken) -> list[Others]:
        """Store what has room; the answers for that."""
        answers: list[Others] = [{} for _ in request.blocks]
        kept = [number for number, count in enumerate(taken.counts) if count]
        if kept:
            parts = [_places(request.blocks[number], 0, taken.counts[number]) for number in kept]
            stored = await self._submit(
                parts, request.caller, has_little=request.has_little, until=taken.until_done
            )
            for number, others in zip(kept, stored, strict=True):
                answers[number] = others
        return answers

    async def _refuse(self, request: _BoundedRequest, counts: Sequence[int], answers: list[Others]) -> None:
        """Add the answers for what has no room."""
        short = [number for number, block in enumerate(request.blocks) if counts[number] < len(block)]
        rests = [_places(request.blocks[each], counts[each], len(request.blocks[each])) for each in short]
        if not rests:
            return
        moving = [place for place, rest in enumerate(rests) if rest.is_debounced]
        moved = await self._moving.add([rests[place] for place in moving], request.caller) if moving else ()
        movers = dict(zip(moving, moved, strict=True))
        known = await self._known.add(rests, request.caller)
        for each, (number, rest, others) in enumerate(zip(short, rests, known, strict=True)):
            refusal = self._rooms.refusal(rest.terms.queue)
            found = others | movers.get(each, {})
            answers[number] |= {
                counts[number] + place: found.get(place, refusal) for place in range(len(rest))
            }

    async def _move_others(self, blocks: Sequence[TaskBlock], statement: StatementSlot) -> list[Others]:
        """Answers for those that move another task."""
        batch = batch_of(blocks)
        moved = await self._move(first_ones(batch))
        await statement.pass_on()
        answers = {place: moved[digits] for place, digits in enumerate(batch.ids) if digits in moved}
        return by_block(blocks, answers) if answers else [{} for _ in blocks]

    async def _look_up(self, blocks: Sequence[TaskBlock], statement: StatementSlot) -> list[Others]:
        """Answers for those that are stored already."""
        told = await self._classify(batch_of(blocks))
        await statement.pass_on()
        answers = {place: answer for place, answer in enumerate(told) if answer is not None}
        return by_block(blocks, answers) if answers else [{} for _ in blocks]


def _places(block: TaskBlock, start: int, stop: int) -> TaskBlock:
    return block if stop - start == len(block) else at_places(block, range(start, stop))
