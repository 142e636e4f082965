"""Works through bulk operations: a portion of tasks in each transaction, with the cursor in it.

Any broker may work on any of them, one at a time; one whose broker has been silent is taken up by another,
which goes on at the cursor. So each task is acted on once, and what a lost broker had committed stays done.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from hyrex.runtime import patterns
from hyrex_broker.domain.bulk import BulkAction, BulkOperation, as_searched
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import BrokerId, TaskId
from hyrex_broker.domain.views import TaskPage
from hyrex_broker.storage.bulk import Advance, BulkStore, NotOursError
from hyrex_broker.storage.cancel import FoundByCancel, Requeued
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

PORTION: Final = 1000
_LOOK_EVERY_S: Final = 5.0
_LEAST_PORTION: Final = 10


class Follows(Protocol):
    """Does what follows from tasks that a transaction has changed."""

    def follow_cancels(self, found: Sequence[FoundByCancel], reason: str) -> None:
        """They were cancelled, or asked to stop."""

    def follow_retries(self, requeued: Sequence[Requeued]) -> None:
        """They were made ready."""


class BulkOperations:
    """One operation at a time; half of the time is left to others."""

    def __init__(self, store: BulkStore, lists: TaskLists, cancels: Follows, broker: BrokerId) -> None:
        self._store = store
        self._lists = lists
        self._cancels = cancels
        self._broker = broker
        self._wanted = asyncio.Event()
        self.portion = PORTION

    def look(self) -> None:
        """There is an operation to take up."""
        self._wanted.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._wanted.clear()
            try:
                found = await self._store.take_up(self._broker)
                while found is not None:
                    await self._work(found)
                    found = await self._store.take_up(self._broker)
            except (StorageUnavailable, StatementRefused) as error:
                log.info("a bulk operation goes on later", extra={"error": str(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wanted.wait()

    async def _work(self, operation: BulkOperation) -> None:
        """Go on until it has ended, or is not this broker's any more. Raises StorageUnavailable."""
        loop, portion = asyncio.get_running_loop(), self.portion
        while True:
            began = loop.time()
            page = await self._lists.page(as_searched(operation.selection), operation.cursor, portion)
            try:
                await self._act(operation, page)
            except NotOursError:
                return
            except StorageUnavailable as error:
                if not error.timed_out or portion <= _LEAST_PORTION:
                    raise
                portion //= 2
                continue
            if page.before is None:
                return
            operation = replace(operation, cursor=page.before)
            await asyncio.sleep(loop.time() - began)

    async def _act(self, operation: BulkOperation, page: TaskPage) -> None:
        """Act on a page in one transaction. Raises NotOursError, StorageUnavailable."""
        ids = [task.task_id for task in page.tasks]
        if operation.action is not BulkAction.DISMISS:
            ids = await self._within(operation, ids)
        if operation.action is BulkAction.CANCEL:
            async with self._store.step(operation, self._broker) as step:
                found = await step.store.cancel_wherever(ids, operation.reason) if ids else []
                step.progress = Advance(page.before, len(ids), len(found))
            self._cancels.follow_cancels(found, operation.reason)
        elif operation.action is BulkAction.DISMISS:
            async with self._store.step(operation, self._broker) as step:
                dismissed = await step.store.dismiss(ids, operation.who) if ids else set()
                step.progress = Advance(page.before, len(ids), len(dismissed))
        else:
            async with self._store.step(operation, self._broker) as step:
                requeued = await step.store.retry(ids) if ids else []
                # Of a workflow more is put back than was asked for.
                done = {*ids} & {each.task_id for each in requeued}
                step.progress = Advance(page.before, len(ids), len(done))
            self._cancels.follow_retries(requeued)

    async def _within(self, operation: BulkOperation, ids: list[TaskId]) -> list[TaskId]:
        """Those of these tasks where whoever began it may act on all nodes too, if they are roots (rule 39).
        Raises StorageUnavailable."""
        if not (ids and operation.selection.within):
            return ids
        below = await self._store.queues_below(ids)
        covers = patterns.known(operation.selection.within)
        return [each for each in ids if all(map(covers, below.get(each, ())))]
