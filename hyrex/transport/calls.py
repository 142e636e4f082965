"""The calls of TaskService that the SDK makes, each with its deadline."""

from typing import Any, Final

import grpc.aio

from hyrex.transport.token import bearer_metadata
from hyrex.v1 import task_service_pb2 as pb
from hyrex.v1 import task_service_pb2_grpc

__all__ = ["Calls"]

SUBMIT: Final = "/{}/SubmitTasks".format(pb.DESCRIPTOR.services_by_name["TaskService"].full_name)
# A frame holds tasks of many callers: its deadline is its own, longer than any one's patience.
FRAME_DEADLINE_S: Final = 10.0
# A watch has no natural end; after this long it is opened again.
WATCH_DEADLINE_S: Final = 3600.0


class Calls:
    """Calls on one channel. Requests of submit are already encoded."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self._metadata = bearer_metadata(token)
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        self._submit: Any = channel.unary_unary(SUBMIT, None, pb.SubmitTasksResponse.FromString)
        self._get: Any = stub.GetTask
        self._cancel: Any = stub.CancelTasks
        self._watch: Any = stub.WatchTasks

    async def submit(self, request: bytes) -> pb.SubmitTasksResponse:
        """Store the tasks of an encoded SubmitTasksRequest."""
        response: pb.SubmitTasksResponse = await self._submit(
            request, timeout=FRAME_DEADLINE_S, metadata=self._metadata
        )
        return response

    async def get(self, task_id: str, timeout_s: float) -> pb.GetTaskResponse:
        """One task with its runs."""
        response: pb.GetTaskResponse = await self._get(
            pb.GetTaskRequest(task_id=task_id), timeout=timeout_s, metadata=self._metadata
        )
        return response

    async def cancel(self, task_id: str, reason: str, timeout_s: float) -> pb.CancelTasksResponse:
        """Ask for a task to end."""
        request = pb.CancelTasksRequest(task_ids=[task_id], reason=reason)
        response: pb.CancelTasksResponse = await self._cancel(
            request, timeout=timeout_s, metadata=self._metadata
        )
        return response

    def watch(
        self, task_ids: list[str]
    ) -> "grpc.aio.UnaryStreamCall[pb.WatchTasksRequest, pb.WatchTasksResponse]":
        """Open a watch over up to 1,000 tasks."""
        request = pb.WatchTasksRequest(task_ids=task_ids)
        call: grpc.aio.UnaryStreamCall[pb.WatchTasksRequest, pb.WatchTasksResponse] = self._watch(
            request, timeout=WATCH_DEADLINE_S, metadata=self._metadata
        )
        return call
