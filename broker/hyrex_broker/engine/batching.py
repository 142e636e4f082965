"""Batches without timers: while one statement is in flight, whatever arrives forms the next batch.

A single item on an idle broker does not wait; under load batches grow by themselves. The next statement is
sent before the answers of the last one are processed, so that Postgres is not idle meanwhile.

Callers share the batches. Where several have something under way, the little that each of them may have ahead
has batches of its own (`shares`): a single item never waits for a statement with a thousand others. Meanwhile
the others' next statement is sent when the answers of the last were given out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from hyrex.runtime.histogram import ITEM_BOUNDS, Histogram
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.shares import AHEAD, Shares
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

BATCH_ITEMS: Final = 1000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""More than that in one statement might exceed its timeout. A larger group has a statement of its own."""
_MOST_UNFINISHED: Final = 4
_ANSWERS_IN_A_TURN: Final = 4


class StatementSlot:
    """The permission of a batch to have a statement in flight."""

    def __init__(self, end: Callable[[], bool]) -> None:
        self._end: Callable[[], bool] | None = end
        self.is_kept: Callable[[], bool] | None = None
        """Whether it is kept until the answers were given out."""

    def end(self) -> bool:
        """Let the next batch begin. Return True if this call has begun one."""
        end, self._end = self._end, None
        return end is not None and end()

    async def pass_on(self) -> None:
        """Let the next batch send its statement, since this one is answered; call it before processing
        answers."""
        if self.is_kept is not None and self.is_kept():
            return
        if self.end():
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Cutting(Generic[Item, Answer]):
    """For items that are blocks of smaller ones, which count in their place."""

    count: Callable[[Item], int]
    halves: Callable[[Item], tuple[Item, Item]]
    """Cuts a block of at least two."""
    joined: Callable[[Item, Answer, Answer], Answer]
    """The answer for a block, of those for its halves."""


@dataclass(slots=True, eq=False)
class Group(Generic[Item, Answer]):
    """Items that arrived together, and the future of their answers."""

    caller: Hashable
    items: Sequence[Item]
    count: int
    size_bytes: int
    answers: "asyncio.Future[Sequence[Answer]]"
    has_little: bool = False
    """Its caller is known to have little under way, most of which may not be admitted yet."""
    cost: int = field(init=False)
    """Its share of a batch, in items: many bytes count as additional items."""

    def __post_init__(self) -> None:
        self.cost = self.count + self.size_bytes * BATCH_ITEMS // BATCH_BYTES


def _stop(groups: Iterable[Group[Item, Answer]]) -> None:
    """Fail these groups, which will not be stored any more; callers may add them again."""
    for group in groups:
        if not group.answers.done():
            group.answers.set_exception(StorageUnavailable("storing was broken off; repeat it"))
            group.answers.exception()  # its caller may be gone: asyncio must not warn that nobody read it


async def _answer(batch: Sequence[Group[Item, Answer]], answers: Sequence[Answer]) -> None:
    """Answer a few groups in each turn of the loop: their callers are about to write, and to read what comes
    next, and a single request must not wait for all of them."""
    start, cancelled = 0, None
    for number, group in enumerate(batch, 1):
        end = start + len(group.items)
        if not group.answers.done():
            group.answers.set_result(answers[start:end])
        start = end
        if number % _ANSWERS_IN_A_TURN == 0 and cancelled is None:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:  # the others are stored as well
                cancelled = error
    if cancelled is not None:
        raise cancelled


async def answered(futures: "Sequence[asyncio.Future[Answer]]") -> list[Answer]:
    """The results of some futures. As asyncio.gather(); mostly there is one, which gather() would answer two
    turns of the loop later."""
    return [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)


Store = Callable[[Sequence[Item], StatementSlot], Awaitable[Sequence[Answer]]]


class _Batches(Generic[Item, Answer]):
    """Groups that wait, and the one statement in flight for them; `flush` stores a batch and answers."""

    def __init__(
        self,
        flush: Callable[[list[Group[Item, Answer]], StatementSlot], Awaitable[None]],
        take: Callable[[], list[Group[Item, Answer]]],
        waits: Callable[[], bool],
    ) -> None:
        self._flush = flush
        self._take = take
        self._waits = waits
        self._is_taken = False
        self._unfinished = 0
        self._tasks: asyncio.TaskGroup | None = None

    def open(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to store what waits."""
        self._is_taken = False  # a batch that was cancelled before its first step has counted nothing down
        self._unfinished = 0
        self._tasks = tasks
        self.start()

    def close(self) -> None:
        """Begin nothing more."""
        self._tasks = None

    @property
    def unfinished(self) -> int:
        """How many batches were begun and have not ended."""
        return self._unfinished

    def start(self) -> bool:
        """Begin to store what waits, and what arrives until the asyncio task runs. Return True if one
        began."""
        if self._tasks is None or not self._waits():
            return False
        if self._is_taken or self._unfinished >= _MOST_UNFINISHED:
            return False
        self._is_taken = True
        self._unfinished += 1
        self._tasks.create_task(self._store_batch())
        return True

    async def _store_batch(self) -> None:
        statement = StatementSlot(self._end_statement)
        try:
            batch = self._take()
            if batch:
                await self._flush(batch, statement)
        except asyncio.CancelledError:
            self._tasks = None  # all of them are being broken off: nothing new begins
            raise
        finally:
            self._unfinished -= 1
            statement.end()
            self.start()

    def _end_statement(self) -> bool:
        self._is_taken = False
        return self.start()


class Batcher(Generic[Item, Answer]):
    """Collects groups of items, stores them in batches, answers each group when its batch is stored.

    `store` gets up to BATCH_ITEMS items of up to BATCH_BYTES together, and the statement slot of their batch,
    which it may pass on; it returns one answer for each. An item that makes Postgres refuse the statement is
    found by bisection and answered by `refused`, alone (rule 6). Items may be blocks: `cutting` says how many
    each stands for, and how the search goes on inside one. The batches belong to the broker: a caller that
    goes away cancels nobody else. `merged` counts the items of each batch.
    """

    def __init__(
        self,
        store: Store[Item, Answer],
        refused: Callable[[Item, StatementRefused], Awaitable[Answer]],
        size_bytes: Callable[[Item], int],
        cutting: Cutting[Item, Answer] | None = None,
        merged: Histogram | None = None,
    ) -> None:
        self._cutting = cutting
        self._merged = Histogram(ITEM_BOUNDS) if merged is None else merged
        self._store = store
        self._refused = refused
        self._size_bytes = size_bytes
        self._shares: Shares[Group[Item, Answer]] = Shares(BATCH_ITEMS, BATCH_BYTES)
        shares = self._shares
        self._ahead: _Batches[Item, Answer] = _Batches(self._flush, shares.take_ahead, shares.waits_ahead)
        self._large: _Batches[Item, Answer] = _Batches(self._flush, shares.take, shares.waits)

    def add(
        self, items: Sequence[Item], caller: Hashable = None, *, has_little: bool = False
    ) -> "asyncio.Future[Sequence[Answer]]":
        """Queue a group; the future resolves to its answers after the commit, or to the batch's error.

        Callers have equal shares of the batches; `has_little`: this one is known to have little under way.
        Whoever awaits it may be cancelled: its batch is stored all the same.
        """
        future: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        if not items:
            future.set_result(())
            return future
        count = len(items) if self._cutting is None else sum(map(self._cutting.count, items))
        group = Group(caller, items, count, sum(map(self._size_bytes, items)), future, has_little)
        self._shares.add(group)
        self._ahead.start()
        self._large.start()
        return future

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        begun = {"ahead unfinished": self._ahead.unfinished, "unfinished": self._large.unfinished}
        return self._shares.sizes() | begun

    async def run(self) -> None:
        """Store batches until cancelled. Callers that wait then get StorageUnavailable. May be run again."""
        both = (self._ahead, self._large)
        try:
            async with asyncio.TaskGroup() as group:
                for batches in both:
                    batches.open(group)
                try:
                    await asyncio.Event().wait()
                finally:
                    for batches in both:
                        batches.close()
        finally:
            _stop(self._shares.take_all())

    async def _flush(self, batch: list[Group[Item, Answer]], statement: StatementSlot) -> None:
        count = sum([group.count for group in batch])
        self._merged.add(count)
        if count > AHEAD and len(batch) > 1:
            statement.is_kept = self._gives_way
        items = batch[0].items if len(batch) == 1 else [item for group in batch for item in group.items]
        try:
            answers = await self._bisect(items, statement)
        except Exception as error:
            for group in batch:
                if not group.answers.done():
                    group.answers.set_exception(error)
            return
        except asyncio.CancelledError:
            _stop(batch)
            raise
        finally:
            for group in batch:
                self._shares.ended(group)
        await _answer(batch, answers)

    def _gives_way(self) -> bool:
        """Return True if bulk is to be answered before its next statement begins.

        Else its callers, this process and Postgres are at work all the time, and whoever has little waits for
        a core at each step of a request (docs/performance.md, "One send beside bulk").
        """
        return self._shares.gives_way()

    async def _bisect(self, items: Sequence[Item], statement: StatementSlot) -> Sequence[Answer]:
        try:
            return await self._store(items, statement)
        except StatementRefused as error:
            if len(items) == 1:
                return [await self._bisect_block(items[0], statement, error)]
            middle = len(items) // 2
            halves = items[:middle], items[middle:]
            return [answer for half in halves for answer in await self._bisect(half, statement)]

    async def _bisect_block(self, item: Item, statement: StatementSlot, error: StatementRefused) -> Answer:
        cutting = self._cutting
        if cutting is None or cutting.count(item) == 1:
            log.warning("item refused by the database", extra={"sqlstate": error.sqlstate})
            return await self._refused(item, error)
        first, second = [await self._bisect([half], statement) for half in cutting.halves(item)]
        return cutting.joined(item, first[0], second[0])
