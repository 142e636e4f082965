"""Merging without timers: while one statement is in flight, whatever arrives forms the next batch.

A single item on an idle broker waits for nothing; under load batches grow by themselves.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from broker.storage.pool import StatementRefused

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Merger(Generic[Item, Answer]):
    """Collects groups of items, stores them in batches, answers each group when its batch is stored.

    `store` gets up to `limit` items and returns one answer for each. An item that makes Postgres
    refuse the statement is found by bisection and answered by `refused`, alone (rule 6). The loop
    belongs to the broker: a caller that goes away cancels nobody else.
    """

    def __init__(
        self,
        store: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        refused: Callable[[Item, StatementRefused], Awaitable[Answer]],
        *,
        limit: int = 1000,
    ) -> None:
        self._store = store
        self._refused = refused
        self._limit = limit
        self._waiting: deque[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]] = deque()
        self._arrived = asyncio.Event()

    def add(self, items: Sequence[Item]) -> "asyncio.Future[Sequence[Answer]]":
        """Queue a group; the future resolves to its answers after the commit, or to the batch's error."""
        future: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        self._arrived.set()
        return future

    async def run(self) -> None:
        """Store batches until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    await self._flush(self._next_batch())
        finally:
            for _, future in self._waiting:
                future.cancel()

    def _next_batch(self) -> list[tuple[Sequence[Item], "asyncio.Future[Sequence[Answer]]"]]:
        batch = [self._waiting.popleft()]
        size = len(batch[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= self._limit:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0])
        return batch

    async def _flush(self, batch: list[tuple[Sequence[Item], "asyncio.Future[Sequence[Answer]]"]]) -> None:
        items = batch[0][0] if len(batch) == 1 else [item for group, _ in batch for item in group]
        try:
            answers = await self._bisect(items)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        start = 0
        for group, future in batch:
            end = start + len(group)
            if not future.done():
                future.set_result(answers[start:end])
            start = end

    async def _bisect(self, items: Sequence[Item]) -> Sequence[Answer]:
        try:
            return await self._store(items)
        except StatementRefused as error:
            if len(items) == 1:
                log.warning("item refused by the database", extra={"sqlstate": error.sqlstate})
                return [await self._refused(items[0], error)]
            middle = len(items) // 2
            return [*await self._bisect(items[:middle]), *await self._bisect(items[middle:])]
