"""Watching tasks: sends every change of a task to the callers that wait for it, without polling for each.

A watcher is registered before its tasks are read, so that no later change is missed. All watched tasks that
have changed are read in one statement for all watchers; those that change while it runs are in the next one,
so no timer is needed. A slow round over all watched tasks makes up for lost notifications.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Protocol

from hyrex_broker.domain.errors import NoSuchTask, StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.progress import ProgressView
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import RunView, TaskView
from hyrex_broker.engine.watch_room import WatchRoom
from hyrex_broker.storage.reads import IDS_PER_STATEMENT, WATCHED, WATCHED_WHOLE, Detail

log = logging.getLogger(__name__)

FRAME_BYTES: Final = 1024 * 1024
FEW: Final = 64
"""Up to so many ids that change together are read first; more count as bulk, which is read behind them."""
_ROUND_S: Final = 1.0
_REPEAT_AFTER_S: Final = 0.5


Place = Callable[[int], AbstractAsyncContextManager[None]]
"""What bounds the frames of one caller that are made and not read yet."""


def _any_place(_: int) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class Reads(Protocol):
    """Reads tasks."""

    async def tasks(self, task_ids: Sequence[TaskId], detail: Detail) -> list[TaskView]:
        """Tasks by id; unknown ids are missing. Raises StorageUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class _Told:
    """The state of a task that a watcher was sent last; an equal one is not sent again."""

    state: TaskState
    runs: int
    run_number: int
    cancel_requested: bool
    progress: ProgressView | None


class _Watcher:
    """One caller and its ids; keeps the newest unsent state of each, and no older ones."""

    def __init__(self, task_ids: Iterable[TaskId]) -> None:
        self.open = set(task_ids)
        self.unsent: dict[TaskId, TaskView] = {}
        self.unknown: TaskId | None = None
        self.news = asyncio.Event()
        self._told: dict[TaskId, _Told] = {}

    def tell(self, view: TaskView) -> None:
        last = view.runs[-1].run_number if view.runs else -1
        progress = view.runs[-1].progress if view.runs else None
        told = _Told(view.state, len(view.runs), last, view.cancel_requested, progress)
        if self._told.get(view.task_id) != told:
            self._told[view.task_id] = told
            self.unsent[view.task_id] = view
            self.news.set()

    def tell_unknown(self, task_id: TaskId) -> None:
        self.unknown = task_id
        self.news.set()


class Watches:
    """All watchers of this broker."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self.room = WatchRoom()
        self._watchers: dict[TaskId, set[_Watcher]] = {}
        self._touched: dict[TaskId, None] = {}
        self._behind: dict[TaskId, None] = {}
        self._due: dict[TaskId, None] = {}
        self._call = asyncio.Event()
        self._most = IDS_PER_STATEMENT

    @property
    def active(self) -> bool:
        """Return True if anything is watched."""
        return bool(self._watchers)

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        return {
            "watched tasks": len(self._watchers),
            "watched, by each watch": self.room.in_all,
            "to read": len(self._touched),
            "to read later": len(self._behind),
        }

    def touch(self, task_ids: Iterable[TaskId]) -> None:
        """Note that these tasks have changed (committed). Costs a lookup for each id, nothing without
        watchers."""
        if not self._watchers:
            return
        watched = [task_id for task_id in task_ids if task_id in self._watchers]
        if watched:
            # Many at once are bulk, so that a single task is not read behind them.
            touched = self._touched if len(watched) <= FEW else self._behind
            touched.update(dict.fromkeys(watched))
            self._call.set()

    def touch_all(self) -> None:
        """Note that too many tasks to be named have changed elsewhere."""
        self._behind.update(dict.fromkeys(self._watchers))
        self._call.set()

    async def watch(
        self,
        task_ids: Collection[TaskId],
        place: Place = _any_place,
        caller: Hashable = None,
        token: Hashable = None,
    ) -> AsyncGenerator[list[TaskView], None]:
        """Yield frames of states: first of every task, then each change, until all have ended.

        `place` of about so many bytes is entered before a frame is made, and left when the next one is asked
        for. Raises: NoSuchTask, QuotaExceeded, and what `place` raises.
        """
        watcher = _Watcher(task_ids)
        with self.room.taken(caller, len(watcher.open), token):
            self._register(watcher)
            try:
                while watcher.open:
                    await watcher.news.wait()
                    watcher.news.clear()
                    if watcher.unknown is not None:
                        raise NoSuchTask(watcher.unknown)
                    for frame, size in self._frames(watcher):
                        async with place(size):
                            yield await self._completed(frame)
            finally:
                self._forget(watcher, watcher.open)

    async def run(self) -> None:
        """Read what was touched, and everything that is watched round by round, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer_touches())
            group.create_task(self._go_round())

    async def _answer_touches(self) -> None:
        while True:
            await self._call.wait()
            self._call.clear()
            while self._touched or self._behind:
                # At least a quarter is for the bulk.
                batch = _taken(self._touched, self._most * 3 // 4 or self._most)
                batch += _taken(self._behind, self._most - len(batch))
                await self._read(list(dict.fromkeys(batch)))

    async def _go_round(self) -> None:
        while True:
            await asyncio.sleep(_ROUND_S)
            # At most one statement's ids each second, so that thousands of idle watchers cost little.
            self._due = self._due or dict.fromkeys(self._watchers)
            self.touch(_taken(self._due, IDS_PER_STATEMENT))

    async def _read(self, batch: list[TaskId]) -> None:
        """Read states and pass them on. If a batch takes too long (runs, errors and tracebacks may be large),
        it is halved; later batches grow again slowly."""
        watched = [task_id for task_id in batch if task_id in self._watchers]
        if not watched:
            return
        try:
            views = await self._reads.tasks(watched, WATCHED)
        except StorageUnavailable as error:
            if error.timed_out:
                self._most = max(len(watched) // 2, 1)
            log.debug("watched tasks could not be read; trying again", extra={"tasks": len(watched)})
            self._behind.update(dict.fromkeys(watched))
            await asyncio.sleep(_REPEAT_AFTER_S)
            return
        self._most = min(self._most + max(self._most // 10, 1), IDS_PER_STATEMENT)
        self._tell(watched, views)

    def _tell(self, asked: list[TaskId], views: list[TaskView]) -> None:
        for view in views:
            for watcher in self._watchers.get(view.task_id, ()):
                watcher.tell(view)
        for task_id in set(asked) - {view.task_id for view in views}:
            for watcher in self._watchers.get(task_id, ()):
                watcher.tell_unknown(task_id)

    def _frames(self, watcher: _Watcher) -> Iterable[tuple[list[TaskView], int]]:
        """Unsent states in frames of a megabyte or one task; tasks that have ended are watched no more."""
        frame: list[TaskView] = []
        size = 0
        while watcher.unsent:
            task_id = next(iter(watcher.unsent))
            view = watcher.unsent.pop(task_id)
            if view.state.final:
                self._forget(watcher, [task_id])
                watcher.open.discard(task_id)
            cost = view.size_bytes + view.left_out_bytes
            if frame and size + cost > FRAME_BYTES:
                yield frame, size
                frame, size = [], 0
            frame.append(view)
            size += cost
        if frame:
            yield frame, size

    async def _completed(self, frame: list[TaskView]) -> list[TaskView]:
        """Read results that were too large to be kept for every watcher."""
        missing = [view.task_id for view in frame if view.left_out_bytes]
        if not missing:
            return frame
        whole = {view.task_id: view for view in await self._reads.tasks(missing, WATCHED_WHOLE)}
        return [_with_results(view, whole.get(view.task_id)) for view in frame]

    def _register(self, watcher: _Watcher) -> None:
        for task_id in watcher.open:
            self._watchers.setdefault(task_id, set()).add(watcher)
        self.touch(watcher.open)

    def _forget(self, watcher: _Watcher, task_ids: Iterable[TaskId]) -> None:
        for task_id in task_ids:
            watchers = self._watchers.get(task_id)
            if watchers is not None:
                watchers.discard(watcher)
                if not watchers:
                    del self._watchers[task_id]


def _taken(ids: dict[TaskId, None], most: int) -> list[TaskId]:
    """Take out the first ones."""
    first = list(islice(ids, most))
    for task_id in first:
        del ids[task_id]
    return first


def _with_results(view: TaskView, whole: TaskView | None) -> TaskView:
    """The same state with the results that were left out. It is sent even if the task was reopened since."""
    if whole is None:
        return view
    read = {run.run_number: run for run in whole.runs}
    runs = tuple(_filled(run, read.get(run.run_number)) for run in view.runs)
    return replace(view, runs=runs, labels=whole.labels)


def _filled(run: RunView, whole: RunView | None) -> RunView:
    if whole is None:
        return run
    return replace(run, result=whole.result, error_message=whole.error_message, traceback=whole.traceback)
