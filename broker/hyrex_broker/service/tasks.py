"""TaskService: the RPCs for senders. Thin: checks a request, calls the engine or the storage, converts."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from hyrex_broker.domain.errors import InvalidField, NoSuchTask, PageTokenInvalid
from hyrex_broker.domain.long_work import in_portions
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import TaskView
from hyrex_broker.domain.waiting import (
    MOST_NAMED,
    waiting_for,
    waiting_for_another_worker,
    waiting_for_key,
    waiting_for_nodes,
    waiting_outside,
)
from hyrex_broker.engine.fairness import Admission
from hyrex_broker.engine.watches import Watches
from hyrex_broker.service import convert, filters, requests
from hyrex_broker.service import fields as checks
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.complete_calls import CompleteCalls
from hyrex_broker.service.frames import Begun, serve_frames
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.replay import Replays, SubmitsTasks
from hyrex_broker.service.submit import PlacedResults
from hyrex_broker.service.task_changes import Cancelling, TaskChanges
from hyrex_broker.service.task_rights import ListedMessages, Looks, TaskRights
from hyrex_broker.service.unread import UnreadFrames
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.reads import FOUND, LISTED, TaskReads
from hyrex_broker.storage.replica import Either

LISTS_AT_ONCE: Final = 2
"""How many lists are read at once. One may take 1.5 s: other connections are kept for reads of single
tasks."""
MOST_COUNTED: Final = 10_000
_USUALLY_COUNTED: Final = 1000
FRAMES_UNDER_WAY: Final = 8
_FEW_TASKS: Final = 20
_DEFAULT_PAGE: Final = 50


class Submits(SubmitsTasks, Protocol):
    """Stores groups of tasks too; callers have equal shares."""

    async def submit_groups(
        self,
        groups: Sequence[task_service_pb2.TaskGroup],
        results: PlacedResults,
        patience_s: float | None = None,
        caller: Hashable = None,
    ) -> None:
        """Add a result for each task that is not stored now, after the commit."""
        ...


@dataclass(frozen=True, slots=True)
class TaskParts:
    """The parts that TaskService uses."""

    submits: Submits
    cancels: Cancelling
    completions: CompleteCalls
    reads: TaskReads
    lists: Either[TaskLists]
    watches: Watches
    looks: Looks
    pages: PageTokens
    leaving: asyncio.Event
    """Set when the broker is about to stop."""


class TaskServicer(task_service_pb2_grpc.TaskServiceServicer):
    """The RPCs of TaskService."""

    def __init__(self, parts: TaskParts) -> None:
        self._parts = parts
        self._lists = Admission(LISTS_AT_ONCE, has_reserve=False)
        self._large_frame = asyncio.Lock()
        self._frames = UnreadFrames()
        self._rights = TaskRights(parts.reads, parts.looks)
        self._changes = TaskChanges(parts.cancels, self._rights)
        self._replays = Replays(parts.reads, parts.submits, parts.looks)

    async def SubmitTasks(
        self, request: task_service_pb2.SubmitTasksRequest, context: Context
    ) -> task_service_pb2.SubmitTasksResponse:
        response = task_service_pb2.SubmitTasksResponse()
        await self._parts.submits.submit(
            request.tasks, response.results, requests.patience_s(context), requests.caller(context)
        )
        return response

    # The generated signature wants an async generator; grpc.aio also takes a coroutine that writes.
    async def StreamSubmit(  # type: ignore[override]
        self, request_iterator: AsyncIterator[task_service_pb2.StreamSubmitRequest], context: Context
    ) -> None:
        """Store frames as they come, a few at once; beyond those HTTP/2 flow control holds the client.

        A refused frame ends the stream with its status; all frames without an answer may be sent again. A
        broker that stops answers the frames that it has read, and ends the stream with OK.
        """
        window, caller = asyncio.Semaphore(FRAMES_UNDER_WAY), requests.caller(context)

        async def begin(frame: task_service_pb2.StreamSubmitRequest) -> Begun:
            await window.acquire()

            async def answer() -> task_service_pb2.StreamSubmitResponse:
                response = task_service_pb2.StreamSubmitResponse(sequence=frame.sequence)
                patience_s = requests.patience_s(context)
                await self._parts.submits.submit_groups(frame.groups, response.results, patience_s, caller)
                return response

            return Begun(answer, window.release)

        await serve_frames(request_iterator, context, self._parts.leaving, begin)

    async def GetTask(
        self, request: task_service_pb2.GetTaskRequest, context: Context
    ) -> task_service_pb2.GetTaskResponse:
        task_id = checks.task_id(request.task_id)
        view = await self._parts.reads.task(task_id)
        if view is None:
            raise NoSuchTask(task_id)
        self._rights.check([view])
        self._rights.note("task.get", [view])
        return task_service_pb2.GetTaskResponse(task=self._rights.shown(view, await self._waiting_for(view)))

    async def ListTasks(
        self, request: task_service_pb2.ListTasksRequest, context: Context
    ) -> task_service_pb2.ListTasksResponse:
        selection, size = filters.selection(request), requests.page_size(request.page_size, _DEFAULT_PAGE)
        words = filters.in_words(selection)
        before = _task_before(await self._parts.pages.cursor(request.page_token, words))
        told, sees = self._rights.told(request.messages), self._rights.sees()
        detail = FOUND if told is ListedMessages.NONE else LISTED
        permit = await self._lists.enter(requests.caller(context), 1)
        try:
            find = partial(
                TaskLists.page, selection=selection, before=before, size=size, sees=sees, detail=detail
            )
            page = await self._parts.lists.ask(find)
        finally:
            permit.leave()
        return task_service_pb2.ListTasksResponse(
            tasks=self._rights.listed(page.tasks, told),
            next_page_token=await self._parts.pages.token(page.before, words),
            looked_back_to=convert.made_at(page.before) if page.before is not None else None,
        )

    async def CountTasks(
        self, request: task_service_pb2.CountTasksRequest, context: Context
    ) -> task_service_pb2.CountTasksResponse:
        selection = filters.of_filter(request.filter)
        most = checks.integer(request.most, "most", 0, MOST_COUNTED) or _USUALLY_COUNTED
        sees = self._rights.sees()
        permit = await self._lists.enter(requests.caller(context), 1)
        try:
            count, rest = await self._parts.lists.ask(lambda lists: lists.count(selection, most, sees))
        finally:
            permit.leave()
        return task_service_pb2.CountTasksResponse(
            count=count,
            more=rest is not None,
            looked_back_to=convert.made_at(rest) if rest is not None else None,
        )

    async def CancelTasks(
        self, request: task_service_pb2.CancelTasksRequest, context: Context
    ) -> task_service_pb2.CancelTasksResponse:
        return await self._changes.cancel(request, context)

    async def RetryTasks(
        self, request: task_service_pb2.RetryTasksRequest, context: Context
    ) -> task_service_pb2.RetryTasksResponse:
        return await self._changes.retry(request, context)

    async def DismissTasks(
        self, request: task_service_pb2.DismissTasksRequest, context: Context
    ) -> task_service_pb2.DismissTasksResponse:
        return await self._changes.dismiss(request, context)

    async def CompleteTasks(
        self, request: task_service_pb2.CompleteTasksRequest, context: Context
    ) -> task_service_pb2.CompleteTasksResponse:
        return await self._parts.completions.complete(request, context)

    async def ReplayTask(
        self, request: task_service_pb2.ReplayTaskRequest, context: Context
    ) -> task_service_pb2.ReplayTaskResponse:
        return await self._replays.replay(request, context)

    async def WatchTasks(
        self, request: task_service_pb2.WatchTasksRequest, context: Context
    ) -> AsyncIterator[task_service_pb2.WatchTasksResponse]:
        ids = requests.task_ids(request.task_ids)
        if request.tell_missing:
            missing = await self._rights.missing(ids)
            yield task_service_pb2.WatchTasksResponse(missing=missing)
            ids = [each for each in ids if each not in missing]
        else:
            await self._rights.check_ids(ids)
        place, caller = partial(self._frames.place, context), requests.caller(context)
        token = current_caller().key or None
        async with aclosing(self._parts.watches.watch(ids, place, caller, token)) as frames:
            async for frame in frames:
                self._rights.check(frame)
                self._rights.note("task.watch", frame)
                yield task_service_pb2.WatchTasksResponse(tasks=await self._converted(frame))

    async def _converted(self, frame: Sequence[TaskView]) -> list[task_pb2.Task]:
        """Convert tasks for a frame. Large frames are converted one at a time; small ones need not wait."""
        if len(frame) <= _FEW_TASKS:
            return [self._rights.shown(view, view.in_outbox) for view in frame]
        async with self._large_frame:
            return [self._rights.shown(view, view.in_outbox) async for view in in_portions(frame, 1)]

    async def _waiting_for(self, view: TaskView) -> str:
        if view.in_outbox:
            return view.in_outbox
        of_workflow = view.state is TaskState.BLOCKED and (view.node or view.workflow_nodes)
        if of_workflow and (nodes := await self._parts.reads.awaited(view.task_id, MOST_NAMED + 1)):
            return waiting_for_nodes(nodes)
        if view.state is TaskState.BLOCKED and view.is_outside:
            return waiting_outside(view.task_id)
        if view.state is TaskState.BLOCKED:
            key, most, holders = await self._parts.reads.key_holders(view.task_id, 1)
            return waiting_for_key(key, most, holders)
        if view.state is not TaskState.QUEUED:
            return waiting_for_another_worker(view)
        around = await self._parts.reads.run_conditions(view.queue, view.name)
        return waiting_for(view.queue, view.name, around)


def _task_before(cursor: str | None) -> TaskId | None:
    try:
        return None if cursor is None else checks.task_id(cursor, "page_token")
    except InvalidField as error:
        raise PageTokenInvalid(error.message) from error
