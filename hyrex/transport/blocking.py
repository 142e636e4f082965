"""Calls of TaskService without an event loop: each blocks its caller and has a channel of its own."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc

from hyrex.backend.outgoing import Outgoing, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.protocol import OutsideAnswer, Replay
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.transport.calls import (
    cancelled,
    complete_request,
    completed,
    dismissed,
    replay_request,
    require_replayed,
    retried,
)
from hyrex.transport.channel import Address, open_blocking
from hyrex.transport.convert import submit_request, task_state
from hyrex.transport.errors import CallFailed, CallFailure, call_failure
from hyrex.transport.token import bearer_metadata
from hyrex.transport.workflows import submit_workflow_request, workflow_outcome, workflow_state
from hyrex.v1 import task_service_pb2 as pb
from hyrex.v1 import workflow_service_pb2

__all__ = ["BlockingCalls", "Submitted"]

T = TypeVar("T")
TASKS: Final = pb.DESCRIPTOR.services_by_name["TaskService"].full_name
WORKFLOWS: Final = workflow_service_pb2.DESCRIPTOR.services_by_name["WorkflowService"].full_name
ONE_OF_SEVERAL_S: Final = 1.5
PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answers for tasks; `is_first`: no earlier attempt may have stored them."""

    answers: Sequence[Any]
    is_first: bool


class BlockingCalls:
    """Calls that are repeated, at one broker after the other, until one answers or `within_s` have passed."""

    def __init__(self, addresses: Sequence[Address], token: str | None, within_s: float) -> None:
        self._addresses = addresses
        self._metadata = bearer_metadata(token)
        self._within_s = within_s

    def submit(self, tasks: Sequence[Outgoing], within_s: float) -> Submitted:
        """Store tasks. Raises CallFailed."""
        request = submit_request(tasks)
        attempts, answer = self._call("SubmitTasks", request, pb.SubmitTasksResponse, within_s)
        return Submitted(answer.results, attempts == 1)

    def get(self, task_id: str) -> TaskSnapshot:
        """One task with its runs. Raises CallFailed."""
        request = pb.GetTaskRequest(task_id=task_id).SerializeToString()
        return task_state(self._call("GetTask", request, pb.GetTaskResponse)[1].task)

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """See Calls.cancel. Raises CallFailed, TaskNotFound."""
        request = pb.CancelTasksRequest(task_ids=[task_id], reason=reason).SerializeToString()
        return cancelled(
            task_id, self._call("CancelTasks", request, pb.CancelTasksResponse)[1].results[0].outcome
        )

    def dismiss(self, task_id: str) -> bool:
        """See Calls.dismiss. Raises CallFailed, TaskNotFound."""
        request = pb.DismissTasksRequest(task_ids=[task_id]).SerializeToString()
        answer = self._call("DismissTasks", request, pb.DismissTasksResponse)[1]
        return dismissed(task_id, answer.results[0])

    def submit_workflow(self, workflow: OutgoingWorkflow, within_s: float) -> tuple[SendResult, bool]:
        """What became of a workflow, and whether no earlier attempt may have stored it. Raises CallFailed."""
        request = submit_workflow_request(workflow).SerializeToString()
        answer = workflow_service_pb2.SubmitWorkflowResponse
        attempts, found = self._call("SubmitWorkflow", request, answer, within_s, service=WORKFLOWS)
        return workflow_outcome(workflow, found), attempts == 1

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """See Calls.get_workflow. Raises CallFailed."""
        request = workflow_service_pb2.GetWorkflowRequest(task_id=task_id).SerializeToString()
        answer = workflow_service_pb2.GetWorkflowResponse
        return workflow_state(self._call("GetWorkflow", request, answer, service=WORKFLOWS)[1])

    def retry(self, task_id: str) -> bool:
        """See Calls.retry. Raises CallFailed, TaskNotFound."""
        request = pb.RetryTasksRequest(task_ids=[task_id]).SerializeToString()
        answer = self._call("RetryTasks", request, pb.RetryTasksResponse)[1]
        return retried(task_id, answer.results[0])

    def complete(self, end: OutsideAnswer) -> bool:
        """See Calls.complete. Raises CallFailed, TaskNotFound, NotWaiting."""
        request = complete_request(end).SerializeToString()
        answer = self._call("CompleteTasks", request, pb.CompleteTasksResponse)[1]
        return completed(end.task_id, answer.results[0].outcome)

    def replay(self, replay: Replay) -> None:
        """See Calls.replay. Raises CallFailed."""
        request = replay_request(replay).SerializeToString()
        require_replayed(replay, self._call("ReplayTask", request, pb.ReplayTaskResponse)[1])

    def _call(
        self, name: str, request: bytes, response: Any, within_s: float | None = None, *, service: str = TASKS
    ) -> tuple[int, Any]:
        """How many attempts it took, and the answer."""

        def call(channel: grpc.Channel, within_s: float) -> Any:
            method: Any = channel.unary_unary(f"/{service}/{name}", None, response.FromString)
            return method(request, timeout=within_s, metadata=self._metadata)

        return self._persist(call, self._within_s if within_s is None else within_s)

    def _persist(self, call: Callable[[grpc.Channel, float], T], total_s: float) -> tuple[int, T]:
        ends = time.monotonic() + total_s
        longest_s = ONE_OF_SEVERAL_S if len(self._addresses) > 1 else total_s
        failure = CallFailure(grpc.StatusCode.DEADLINE_EXCEEDED, "no time left", "", {})
        for attempt, address in enumerate(itertools.cycle(self._addresses), 1):
            left_s = ends - time.monotonic()
            if left_s <= 0:
                break
            try:
                with closing(open_blocking(address)) as channel:
                    return attempt, call(channel, min(left_s, longest_s))
            except grpc.RpcError as error:
                failure = call_failure(error)
            if not failure.repeatable:
                break
            time.sleep(min(max(PAUSE_S, failure.retry_after_s or 0.0), left_s))
        raise CallFailed(failure)
