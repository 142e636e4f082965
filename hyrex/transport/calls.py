"""The SDK's calls of TaskService: plain values in and out, each with a deadline.

Every failure is raised as CallFailed, whether a broker refused the call or the connection broke.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import grpc
import grpc.aio

from hyrex.backend.outgoing import Outgoing, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.protocol import OutsideAnswer, Replay
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.errors import CallRejected, NotWaiting, TaskNotFound
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.transport.cancels import is_ours
from hyrex.transport.convert import placed_outcomes, submit_groups, task_state
from hyrex.transport.errors import CallFailed, CallFailure, call_failure, item_error
from hyrex.transport.kept_status import keep_status
from hyrex.transport.submit_stream import SubmitStream
from hyrex.transport.token import bearer_metadata
from hyrex.transport.workflows import submit_workflow_request, workflow_outcome, workflow_state
from hyrex.v1 import task_service_pb2 as pb
from hyrex.v1 import task_service_pb2_grpc, workflow_service_pb2_grpc
from hyrex.v1.workflow_service_pb2 import GetWorkflowRequest

__all__ = [
    "Calls",
    "cancelled",
    "complete_request",
    "completed",
    "dismissed",
    "replay_request",
    "require_replayed",
    "retried",
]

SUBMIT: Final = "/{}/StreamSubmit".format(pb.DESCRIPTOR.services_by_name["TaskService"].full_name)
# The status of a task after the answer to its cancel.
CANCELLED: Final = MappingProxyType(
    {
        pb.CANCEL_OUTCOME_CANCELLED: TaskStatus.CANCELLED,
        pb.CANCEL_OUTCOME_REQUESTED: TaskStatus.RUNNING,
    }
)
# A watch does not end by itself; after this long it is opened again.
WATCH_DEADLINE_S: Final = 3600.0


class Calls:
    """Calls on one channel."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self.channel = channel
        metadata = self._metadata = bearer_metadata(token)
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        stream: Any = channel.stream_stream(SUBMIT, None, pb.StreamSubmitResponse.FromString)
        self._submits = SubmitStream(lambda: keep_status(stream(metadata=metadata)))
        self._get: Any = stub.GetTask
        self._cancel: Any = stub.CancelTasks
        self._dismiss: Any = stub.DismissTasks
        self._complete: Any = stub.CompleteTasks
        self._replay: Any = stub.ReplayTask
        self._watch: Any = stub.WatchTasks
        self._retry: Any = stub.RetryTasks
        workflows = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        self._submit_workflow: Any = workflows.SubmitWorkflow
        self._get_workflow: Any = workflows.GetWorkflow

    async def submit(self, tasks: Sequence[Outgoing]) -> dict[int, SendResult]:
        """Store the tasks of one frame; what became of those that are not simply stored, by where they stand.
        Raises SendRejected for an answer that makes no sense."""
        groups, order = submit_groups(tasks)
        return placed_outcomes(tasks, order, await self._submits.submit(groups))

    async def get(self, task_id: str, timeout_s: float) -> TaskSnapshot:
        """One task with its runs."""
        request = pb.GetTaskRequest(task_id=task_id)
        with _failures():
            response = await self._get(request, timeout=timeout_s, metadata=self._metadata)
        return task_state(response.task)

    async def cancel(self, task_id: str, reason: str, timeout_s: float) -> TaskStatus | None:
        """Cancel a task. Return its status now, None if it had ended before. Raises TaskNotFound."""
        request = pb.CancelTasksRequest(task_ids=[task_id], reason=reason)
        with _failures():
            response = await self._cancel(request, timeout=timeout_s, metadata=self._metadata)
        return cancelled(task_id, response.results[0].outcome)

    async def dismiss(self, task_id: str, timeout_s: float) -> bool:
        """Dismiss a dead letter. Return False if the task is none. Raises TaskNotFound."""
        request = pb.DismissTasksRequest(task_ids=[task_id])
        with _failures():
            response = await self._dismiss(request, timeout=timeout_s, metadata=self._metadata)
        return dismissed(task_id, response.results[0])

    async def complete(self, end: OutsideAnswer, timeout_s: float) -> bool:
        """End a task that waits for a call from outside. Return False if it had ended. Raises TaskNotFound,
        NotWaiting."""
        with _failures():
            response = await self._complete(complete_request(end), timeout=timeout_s, metadata=self._metadata)
        return completed(end.task_id, response.results[0].outcome)

    async def replay(self, replay: Replay, timeout_s: float) -> None:
        """Store a task like an earlier one. Raises SendRejected, QueueFull."""
        with _failures():
            response = await self._replay(replay_request(replay), timeout=timeout_s, metadata=self._metadata)
        require_replayed(replay, response)

    async def submit_workflow(self, workflow: OutgoingWorkflow, timeout_s: float) -> SendResult:
        """Store a workflow, or nothing of it; what became of its own task."""
        request = submit_workflow_request(workflow)
        with _failures():
            response = await self._submit_workflow(request, timeout=timeout_s, metadata=self._metadata)
        return workflow_outcome(workflow, response)

    async def get_workflow(self, task_id: str, timeout_s: float) -> WorkflowSnapshot:
        """A workflow and its nodes."""
        request = GetWorkflowRequest(task_id=task_id)
        with _failures():
            response = await self._get_workflow(request, timeout=timeout_s, metadata=self._metadata)
        return workflow_state(response)

    async def retry(self, task_id: str, timeout_s: float) -> bool:
        """Have a task run again. Return False if it has not ended. Raises TaskNotFound."""
        request = pb.RetryTasksRequest(task_ids=[task_id])
        with _failures():
            response = await self._retry(request, timeout=timeout_s, metadata=self._metadata)
        return retried(task_id, response.results[0])

    async def watch(self, task_ids: Sequence[str]) -> AsyncGenerator[list[TaskSnapshot], None]:
        """Yield the states of up to 1,000 tasks, then every change, until all have ended."""
        call = self._watch(
            pb.WatchTasksRequest(task_ids=task_ids), timeout=WATCH_DEADLINE_S, metadata=self._metadata
        )
        try:
            with _failures():
                async for response in call:
                    yield [task_state(task) for task in response.tasks]
        finally:
            call.cancel()


def cancelled(task_id: str, outcome: Any) -> TaskStatus | None:
    """A task's status by the answer to its cancel, None if it had ended before. Raises TaskNotFound."""
    if outcome == pb.CANCEL_OUTCOME_NOT_FOUND:
        raise _not_found(task_id)
    return CANCELLED.get(outcome)


def dismissed(task_id: str, result: pb.DismissResult) -> bool:
    """Return True if a task is dismissed, by the answer. Raises TaskNotFound, CallRejected."""
    if result.outcome == pb.DISMISS_OUTCOME_NOT_FOUND:
        raise _not_found(task_id)
    if result.outcome == pb.DISMISS_OUTCOME_REFUSED:
        raise _row_refused(result.error)
    return result.outcome == pb.DISMISS_OUTCOME_DISMISSED


def retried(task_id: str, result: pb.RetryResult) -> bool:
    """Return True if a task runs again, by the answer to its retry. Raises TaskNotFound, CallRejected."""
    if result.outcome == pb.RETRY_OUTCOME_NOT_FOUND:
        raise _not_found(task_id)
    if result.outcome == pb.RETRY_OUTCOME_REFUSED:
        raise _row_refused(result.error)
    return result.outcome == pb.RETRY_OUTCOME_REQUEUED


def complete_request(end: OutsideAnswer) -> pb.CompleteTasksRequest:
    """An end in its wire form."""
    request = pb.CompleteTasksRequest(task_ids=[end.task_id], reason=end.reason)
    if end.error_type:
        request.error.type, request.error.message = end.error_type, end.error_message
    else:
        request.result.result = end.result
    return request


def completed(task_id: str, outcome: Any) -> bool:
    """Return True if a task ended by a call, by its answer. Raises TaskNotFound, NotWaiting."""
    match outcome:
        case pb.COMPLETE_OUTCOME_NOT_FOUND:
            raise _not_found(task_id)
        case pb.COMPLETE_OUTCOME_NOT_WAITING:
            raise NotWaiting(
                f"task {task_id} waits for no call from outside: a worker runs it, or what it waits for first"
                " has not ended"
            )
    return bool(outcome == pb.COMPLETE_OUTCOME_ENDED)


def _not_found(task_id: str) -> TaskNotFound:
    return TaskNotFound(f"no task has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")


def _row_refused(error: pb.ItemError) -> CallRejected:
    return CallRejected(error.message, "FAILED_PRECONDITION", error.reason, dict(error.metadata))


def replay_request(replay: Replay) -> pb.ReplayTaskRequest:
    """A replay in its wire form."""
    return pb.ReplayTaskRequest(task_id=replay.task_id, new_task_id=replay.new_id, payload=replay.payload)


def require_replayed(replay: Replay, response: pb.ReplayTaskResponse) -> None:
    """Raise SendRejected or QueueFull if the broker refused the new task."""
    error = response.result.error
    if error.reason:
        raise item_error(f"the replay of {replay.task_id}", error.message, error.reason, dict(error.metadata))


@contextmanager
def _failures() -> Iterator[None]:
    """Raise CallFailed for whatever ends a call without an answer, except our own cancel."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise CallFailed(call_failure(error)) from None
    except asyncio.CancelledError:
        if is_ours():
            raise
        # A closing channel cancels its calls in the same way as their caller would.
        raise CallFailed(CallFailure(grpc.StatusCode.CANCELLED, "channel closed", "", {})) from None
