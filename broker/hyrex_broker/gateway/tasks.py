"""TaskService of a gateway."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final, NoReturn

from hyrex.v1 import task_service_pb2 as pb
from hyrex.v1 import task_service_pb2_grpc
from hyrex_broker.domain.errors import BrokerError, SpansCells
from hyrex_broker.gateway.cell import passed
from hyrex_broker.gateway.methods import Method, method
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.search import ask_each, find, none_has_it
from hyrex_broker.gateway.submits import GatewaySubmits
from hyrex_broker.gateway.watching import WatchOfCells
from hyrex_broker.service import fields, requests
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.unread import UnreadFrames

_GET, _REPLAY, _CANCEL, _RETRY, _DISMISS, _COMPLETE = (
    method("TaskService", name)
    for name in ("GetTask", "ReplayTask", "CancelTasks", "RetryTasks", "DismissTasks", "CompleteTasks")
)
ONE_CELL: Final = "ask the brokers of one cell, each of which knows its own tasks only"


class GatewayTasks(task_service_pb2_grpc.TaskServiceServicer):
    """Tasks of all cells."""

    def __init__(self, cells: GatewayCells, leaving: asyncio.Event) -> None:
        self._cells = cells
        self._leaving = leaving
        self._submits = GatewaySubmits(cells, leaving)
        self._unread = UnreadFrames()

    async def SubmitTasks(self, request: pb.SubmitTasksRequest, context: Context) -> pb.SubmitTasksResponse:
        return await self._submits.submit(request, context)

    async def StreamSubmit(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.StreamSubmitRequest], context: Context
    ) -> None:
        await self._submits.stream(request_iterator, context)

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        fields.task_id(request.task_id)
        answer: pb.GetTaskResponse = await find(self._cells.all, _GET, request, passed(context))
        return answer

    async def ReplayTask(self, request: pb.ReplayTaskRequest, context: Context) -> pb.ReplayTaskResponse:
        fields.task_id(request.task_id)
        answer: pb.ReplayTaskResponse = await find(self._cells.all, _REPLAY, request, passed(context))
        return answer

    async def CancelTasks(self, request: pb.CancelTasksRequest, context: Context) -> pb.CancelTasksResponse:
        found = await self._changed(_CANCEL, request, context, pb.CANCEL_OUTCOME_NOT_FOUND)
        return pb.CancelTasksResponse(results=found)

    async def RetryTasks(self, request: pb.RetryTasksRequest, context: Context) -> pb.RetryTasksResponse:
        found = await self._changed(_RETRY, request, context, pb.RETRY_OUTCOME_NOT_FOUND)
        return pb.RetryTasksResponse(results=found)

    async def DismissTasks(
        self, request: pb.DismissTasksRequest, context: Context
    ) -> pb.DismissTasksResponse:
        found = await self._changed(_DISMISS, request, context, pb.DISMISS_OUTCOME_NOT_FOUND)
        return pb.DismissTasksResponse(results=found)

    async def CompleteTasks(
        self, request: pb.CompleteTasksRequest, context: Context
    ) -> pb.CompleteTasksResponse:
        found = await self._changed(_COMPLETE, request, context, pb.COMPLETE_OUTCOME_NOT_FOUND)
        return pb.CompleteTasksResponse(results=found)

    async def _changed(self, method: Method, request: Any, context: Context, not_found: Any) -> Sequence[Any]:
        """For each id the result of the cell that has the task. Raises CellAway where that may be one that
        did not answer."""
        requests.task_ids(request.task_ids)
        answers = [each for _, each in await ask_each(self._cells.all, method, request, passed(context))]
        errors = [each for each in answers if isinstance(each, BrokerError)]
        results = [each.results for each in answers if not isinstance(each, BrokerError)]
        if not results:
            raise none_has_it(errors)
        merged = [
            next((each for each in found if each.outcome != not_found), found[0])
            for found in zip(*results, strict=True)
        ]
        if errors and any(each.outcome == not_found for each in merged):
            raise none_has_it(errors)
        return merged

    async def WatchTasks(
        self, request: pb.WatchTasksRequest, context: Context
    ) -> AsyncIterator[pb.WatchTasksResponse]:
        watch = WatchOfCells(self._cells.all, requests.task_ids(request.task_ids), passed(context))
        async with aclosing(watch.frames(self._leaving)) as frames:
            async for frame in frames:
                async with self._unread.place(context, frame.ByteSize()):
                    yield frame

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> NoReturn:
        raise SpansCells("lists of tasks are", ONE_CELL)

    async def CountTasks(self, request: pb.CountTasksRequest, context: Context) -> NoReturn:
        raise SpansCells("counts of tasks are", ONE_CELL)
