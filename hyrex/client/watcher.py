"""Watches tasks for all waiting callers, on few streams.

Runs in the client's thread. If a stream breaks, another is opened for its tasks, on whichever broker answers,
as long as somebody waits for them.
"""

import asyncio
import random
from contextlib import aclosing
from typing import Final

from hyrex.client.watchlist import Watchlist
from hyrex.transport.calls import Calls
from hyrex.transport.connection import BrokerConnection
from hyrex.transport.errors import CallFailed, CallFailure

__all__ = ["WATCHED_IDS", "Watcher"]

WATCHED_IDS: Final = 1000
STREAMS: Final = 8
PAUSE_S: Final = 0.2
_AT_BOUND: Final = "QUOTA_EXCEEDED"


class Watcher:
    """Keeps every task of the watchlist watched by some stream while there is a connection."""

    def __init__(self, watchlist: Watchlist, connection: BrokerConnection, group: asyncio.TaskGroup) -> None:
        self._watchlist = watchlist
        self._connection = connection
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._streams: dict[asyncio.Task[None], set[str]] = {}
        self._stream_of: dict[str, asyncio.Task[None]] = {}
        self._paused = False
        watchlist.put_back_all()

    def pump(self) -> None:
        """Open streams for tasks without one, and end those that nobody needs."""
        self._prune()
        if self._paused or not self._watchlist.has_unwatched or self._connection.usable() is None:
            return
        if len(self._streams) >= STREAMS:
            self._regroup()
        while self._watchlist.has_unwatched and (calls := self._connection.usable()) is not None:
            ids = set(self._watchlist.take_unwatched(WATCHED_IDS))
            task = self._group.create_task(self._watch(calls, ids))
            self._streams[task] = ids
            self._stream_of.update(dict.fromkeys(ids, task))

    def _prune(self) -> None:
        """End streams without waiting callers. Its cost grows only with what changed: every send calls it."""
        for task_id in self._watchlist.take_dropped():
            task = self._stream_of.pop(task_id, None)
            ids = self._streams.get(task) if task is not None else None
            if task is not None and ids is not None:
                ids.discard(task_id)
                if not ids:
                    task.cancel()

    def _regroup(self) -> None:
        """Put the tasks of many small streams, one for each caller, on few new ones."""
        for task, ids in list(self._streams.items()):
            if len(ids) < WATCHED_IDS // 2:
                self._watchlist.put_back(ids)
                ids.clear()
                del self._streams[task]
                task.cancel()

    async def _watch(self, calls: Calls, ids: set[str]) -> None:
        failure: CallFailure | None = None
        try:
            with self._connection.look_after(calls, is_watch=True):
                await self._follow(calls, ids)
        except CallFailed as error:
            failure = error.failure
            if failure.repeatable and not failure.ran_out_of_time and not _is_of_connection(failure):
                self._connection.leave(calls)
        finally:
            self._forget(ids)
        self._ended(ids, failure)

    async def _follow(self, calls: Calls, ids: set[str]) -> None:
        async with aclosing(calls.watch(list(ids))) as changes:
            async for states in changes:
                ids.difference_update(state.task_id for state in states if state.status.is_final)
                self._watchlist.observe(states)

    def let_go(self) -> None:
        """Drop all references to asyncio tasks: they keep calls, and so gRPC's threads, beyond a fork."""
        self._streams.clear()
        self._stream_of.clear()

    def _forget(self, ids: set[str]) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._streams.pop(task, None)
        for task_id in ids:
            if self._stream_of.get(task_id) is task:
                del self._stream_of[task_id]

    def _ended(self, ids: set[str], failure: CallFailure | None) -> None:
        if failure is not None and failure.reason == "TASK_NOT_FOUND":
            unknown = failure.metadata.get("task_id", "")
            self._fail(ids & {unknown} or ids, failure)
        elif failure is not None and not failure.repeatable:
            self._fail(ids, failure)
        elif failure is not None and failure.reason == _AT_BOUND:
            # Others are watched on: only these are one too many.
            self._loop.call_later(max(PAUSE_S, failure.retry_after_s or 0.0), self._take_again, ids)
            self.pump()
            return
        elif ids:
            self._paused = True
            told_s = 0.0 if failure is None else failure.retry_after_s or 0.0
            self._loop.call_later(max(random.uniform(PAUSE_S / 2, PAUSE_S), told_s), self._resume)
        self._watchlist.put_back(ids)
        self.pump()

    def _take_again(self, ids: set[str]) -> None:
        self._watchlist.put_back(ids - self._stream_of.keys())
        self.pump()

    def _fail(self, refused: set[str], failure: CallFailure) -> None:
        self._watchlist.fail(refused, failure.exception())

    def _resume(self) -> None:
        self._paused = False
        self.pump()


def _is_of_connection(failure: CallFailure) -> bool:
    """Return True for a bound that another broker has as well."""
    return failure.reason == _AT_BOUND and failure.metadata.get("bound") != "broker"
