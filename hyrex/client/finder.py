"""Reads, cancels and watches tasks in whichever cell has them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, TypeVar

from hyrex.backend.protocol import OutsideAnswer, Replay, Watched
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.client.cell import CellClient, Subscribed
from hyrex.client.search import Misses, Search
from hyrex.client.unary import Ask
from hyrex.errors import BrokerUnavailable, HyrexError
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus

__all__ = ["Finder"]

T = TypeVar("T")
Groups = dict[CellClient, list[str]]
SEARCHES: Final = 64
"""So many tasks are looked for at a time."""


class Finder:
    """`home` tells a task's cell if that is known; otherwise all cells are asked."""

    def __init__(
        self, clients: Sequence[CellClient], home: Callable[[str], CellClient | None], within_s: float
    ) -> None:
        """`within_s`: how long an answer may take."""
        self._clients = clients
        self._home = home
        self._within_s = within_s

    def get(self, task_id: str) -> TaskSnapshot:
        """One task as it stands. Raises BrokerUnavailable while a cell is silent that may have it."""
        return self._ask(task_id, lambda each: each.get(task_id), self._get(task_id))

    async def get_async(self, task_id: str) -> TaskSnapshot:
        """As get()."""
        return await self._ask_async(task_id, lambda each: each.get_async(task_id), self._get(task_id))

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """One workflow as it stands. Raises as get()."""
        return self._ask(task_id, lambda each: each.get_workflow(task_id), self._get_workflow(task_id))

    async def get_workflow_async(self, task_id: str) -> WorkflowSnapshot:
        """As get_workflow()."""
        return await self._ask_async(
            task_id, lambda each: each.get_workflow_async(task_id), self._get_workflow(task_id)
        )

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Cancel a task. Raises as get()."""
        return self._ask(task_id, lambda each: each.cancel(task_id, reason), self._cancel(task_id, reason))

    async def cancel_async(self, task_id: str, reason: str) -> TaskStatus | None:
        """As cancel()."""
        return await self._ask_async(
            task_id, lambda each: each.cancel_async(task_id, reason), self._cancel(task_id, reason)
        )

    def dismiss(self, task_id: str) -> bool:
        """Dismiss a dead letter. Raises as get()."""
        return self._ask(task_id, lambda each: each.dismiss(task_id), self._dismiss(task_id))

    async def dismiss_async(self, task_id: str) -> bool:
        """As dismiss()."""
        return await self._ask_async(
            task_id, lambda each: each.dismiss_async(task_id), self._dismiss(task_id)
        )

    def retry(self, task_id: str) -> bool:
        """Have a task run again. Raises as get()."""
        return self._ask(task_id, lambda each: each.retry(task_id), self._retry(task_id))

    async def retry_async(self, task_id: str) -> bool:
        """As retry()."""
        return await self._ask_async(task_id, lambda each: each.retry_async(task_id), self._retry(task_id))

    def complete(self, end: OutsideAnswer) -> bool:
        """End a task that waits for a call from outside. Raises as get(), NotWaiting."""
        return self._ask(end.task_id, lambda each: each.complete(end), self._complete(end))

    async def complete_async(self, end: OutsideAnswer) -> bool:
        """As complete()."""
        return await self._ask_async(end.task_id, lambda each: each.complete_async(end), self._complete(end))

    def replay(self, replay: Replay) -> None:
        """Store a task like an earlier one, in the cell of that one. Raises as get()."""
        self._ask(replay.task_id, lambda each: each.replay(replay), self._replay(replay))

    async def replay_async(self, replay: Replay) -> None:
        """As replay()."""
        await self._ask_async(replay.task_id, lambda each: each.replay_async(replay), self._replay(replay))

    def _get(self, task_id: str) -> Ask[TaskSnapshot]:
        return lambda calls: calls.get(task_id, self._within_s)

    def _get_workflow(self, task_id: str) -> Ask[WorkflowSnapshot]:
        return lambda calls: calls.get_workflow(task_id, self._within_s)

    def _cancel(self, task_id: str, reason: str) -> Ask[TaskStatus | None]:
        return lambda calls: calls.cancel(task_id, reason, self._within_s)

    def _dismiss(self, task_id: str) -> Ask[bool]:
        return lambda calls: calls.dismiss(task_id, self._within_s)

    def _retry(self, task_id: str) -> Ask[bool]:
        return lambda calls: calls.retry(task_id, self._within_s)

    def _complete(self, end: OutsideAnswer) -> Ask[bool]:
        return lambda calls: calls.complete(end, self._within_s)

    def _replay(self, replay: Replay) -> Ask[None]:
        return lambda calls: calls.replay(replay, self._within_s)

    def _ask(self, task_id: str, call: Callable[[CellClient], T], make: Ask[T]) -> T:
        """Ask the task's cell by `call`; if it is not known, all cells by `make`."""
        home = self._home(task_id)
        return self._find(call, make) if home is None else call(home)

    async def _ask_async(self, task_id: str, call: Callable[[CellClient], Awaitable[T]], make: Ask[T]) -> T:
        """As _ask()."""
        home = self._home(task_id)
        return await (self._find_async(make) if home is None else call(home))

    def _find(self, call: Callable[[CellClient], T], make: Ask[T]) -> T:
        if any(client.is_interrupted for client in self._clients):
            return self._find_in_turn(call)[1]
        return Search(self._clients, make).find(self._within_s)[1]

    def _find_in_turn(self, call: Callable[[CellClient], T]) -> tuple[CellClient, T]:
        """For a caller that interrupts a client, and may not wait for its thread."""
        misses = Misses(self._clients)
        for client in self._clients:
            try:
                return client, call(client)
            except HyrexError as error:
                misses.note(client, error)
        raise misses.error()

    async def _find_async(self, make: Ask[T]) -> T:
        return (await self._located_async(make))[1]

    async def _located_async(self, make: Ask[T]) -> tuple[CellClient, T]:
        misses = Misses(self._clients)
        asking = {asyncio.ensure_future(client.asked(make)): client for client in self._clients}
        try:
            while asking:
                done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    client = asking.pop(each)
                    if (error := each.exception()) is None:
                        return client, each.result()
                    misses.note(client, error)
        finally:
            for each in asking:
                each.cancel()
        raise misses.error()

    # Watching

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """Wait for tasks. One that is nowhere, or in a cell that does not answer, has a failure."""
        began, seen = time.monotonic(), Watched()
        groups, unknown = self._grouped(task_ids)
        for some in _lots(unknown):
            self._locate(some, groups, seen)
        if len(groups) <= 1 or any(client.is_interrupted for client in groups):
            for client, ids in groups.items():
                _note(seen, ids, _watched(client, ids, _left(timeout_s, began)))
            return seen
        with ExitStack() as stack:
            watched = [(each, stack.enter_context(each.subscribed(ids))) for each, ids in groups.items()]
            self._wait(watched, timeout_s, began)
        for client, each in watched:
            _note(seen, groups[client], _seen(client, each))
        return seen

    def _wait(
        self, watched: Sequence[tuple[CellClient, Subscribed]], timeout_s: float | None, began: float
    ) -> None:
        """Wait for all. Without a timeout, a cell that does not answer at first is not waited for."""
        patience_s = self._within_s if timeout_s is None else timeout_s
        for _, each in watched:
            each.wait(_left(patience_s, began))
        if timeout_s is None:
            for client, each in watched:
                if isinstance(_seen(client, each), Watched):
                    each.wait(None)

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """As watch()."""
        began, seen = time.monotonic(), Watched()
        groups, unknown = self._grouped(task_ids)
        for some in _lots(unknown):
            found = await _all(self._located_async(self._get(task_id)) for task_id in some)
            for task_id, answer in zip(some, found, strict=True):
                if isinstance(answer, HyrexError):
                    seen.failures[task_id] = answer
                else:
                    groups.setdefault(answer[0], []).append(task_id)
        left_s = _left(timeout_s, began)
        answers = await _all(client.watch_async(ids, left_s) for client, ids in groups.items())
        for ids, watched in zip(groups.values(), answers, strict=True):
            _note(seen, ids, watched)
        return seen

    def _grouped(self, task_ids: Sequence[str]) -> tuple[Groups, list[str]]:
        """The tasks by their cells, and those whose cell is not known."""
        groups: Groups = {}
        unknown: list[str] = []
        for task_id in task_ids:
            home = self._home(task_id)
            (unknown if home is None else groups.setdefault(home, [])).append(task_id)
        return groups, unknown

    def _locate(self, task_ids: Sequence[str], groups: Groups, seen: Watched) -> None:
        """Put tasks to their cells; note a failure for each that is in none."""
        searches: dict[str, Search[TaskSnapshot]] = {}
        with ExitStack() as stack:
            if not any(client.is_interrupted for client in self._clients):
                for task_id in task_ids:
                    searches[task_id] = Search(self._clients, self._get(task_id))
                    stack.callback(searches[task_id].end)
            for task_id in task_ids:
                try:
                    client = self._cell_of(task_id, searches.get(task_id))
                except HyrexError as error:
                    seen.failures[task_id] = error
                else:
                    groups.setdefault(client, []).append(task_id)

    def _cell_of(self, task_id: str, search: Search[TaskSnapshot] | None) -> CellClient:
        if search is not None:
            return search.find(self._within_s)[0]
        return self._find_in_turn(lambda client: client.get(task_id))[0]


async def _all(calls: Iterable[Awaitable[T]]) -> list[T | HyrexError]:
    """What became of calls that are made at once."""
    found: list[T | HyrexError] = []
    for each in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(each, BaseException) and not isinstance(each, HyrexError):
            raise each
        found.append(each)
    return found


def _watched(client: CellClient, task_ids: Sequence[str], timeout_s: float | None) -> Watched | HyrexError:
    try:
        return client.watch(task_ids, timeout_s)
    except BrokerUnavailable as error:
        return error


def _seen(client: CellClient, subscribed: Subscribed) -> Watched | HyrexError:
    try:
        return client.seen(subscribed)
    except BrokerUnavailable as error:
        return error


def _lots(task_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(task_ids), SEARCHES):
        yield task_ids[at : at + SEARCHES]


def _note(seen: Watched, task_ids: Sequence[str], outcome: Watched | HyrexError) -> None:
    if isinstance(outcome, Watched):
        seen.states.update(outcome.states)
        seen.failures.update(outcome.failures)
    else:
        seen.failures.update(dict.fromkeys(task_ids, outcome))


def _left(timeout_s: float | None, began: float) -> float | None:
    return None if timeout_s is None else max(0.0, began + timeout_s - time.monotonic())
