"""The calls of one process to its broker that are about workflows: one unary call each."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from hyrex.backend.outgoing import Outgoing, Progress, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.client.direct import DirectBackend
from hyrex.client.postponed import persist, persist_async
from hyrex.client.submitter import as_known
from hyrex.config import Settings
from hyrex.errors import BrokerUnavailable, HyrexError
from hyrex.transport.calls import Calls
from hyrex.transport.workflows import refusal_of

__all__ = ["WorkflowCalls"]

T = TypeVar("T")


class WorkflowCalls:
    """What RemoteBackend does with workflows."""

    settings: Settings
    _direct: DirectBackend

    @property
    def _is_interrupted(self) -> bool:
        raise NotImplementedError

    def _call(self, make: Callable[[Calls], Coroutine[Any, Any, T]], within_s: float | None = None) -> T:
        raise NotImplementedError

    async def _call_async(
        self, make: Callable[[Calls], Coroutine[Any, Any, T]], within_s: float | None = None
    ) -> T:
        raise NotImplementedError

    def store_workflow(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow, blocking the calling thread."""
        if self._is_interrupted:
            return self._direct.store_workflow(workflow)
        submit = _Submit(workflow)

        def store(_: Sequence[Outgoing], within_s: float) -> list[SendResult]:
            try:
                return [submit.answered(self._call(lambda calls: submit.by(calls, within_s), within_s))]
            except HyrexError as error:
                return [submit.failed(error)]

        return persist(store, [workflow.root], self.settings.send_timeout_s)[0]

    async def store_workflow_async(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow, awaiting on the caller's loop."""
        submit = _Submit(workflow)

        async def store(_: Sequence[Outgoing], within_s: float) -> list[SendResult]:
            try:
                answer = await self._call_async(lambda calls: submit.by(calls, within_s), within_s)
                return [submit.answered(answer)]
            except HyrexError as error:
                return [submit.failed(error)]

        return (await persist_async(store, [workflow.root], self.settings.send_timeout_s))[0]

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """One workflow as it stands."""
        if self._is_interrupted:
            return self._direct.get_workflow(task_id)
        return self._call(lambda calls: calls.get_workflow(task_id, self.settings.send_timeout_s))

    async def get_workflow_async(self, task_id: str) -> WorkflowSnapshot:
        """As get_workflow()."""
        within_s = self.settings.send_timeout_s
        return await self._call_async(lambda calls: calls.get_workflow(task_id, within_s))

    def retry(self, task_id: str) -> bool:
        """Have a task run again that has ended."""
        if self._is_interrupted:
            return self._direct.retry(task_id)
        return self._call(lambda calls: calls.retry(task_id, self.settings.send_timeout_s))

    async def retry_async(self, task_id: str) -> bool:
        """As retry()."""
        within_s = self.settings.send_timeout_s
        return await self._call_async(lambda calls: calls.retry(task_id, within_s))


class _Submit:
    """One send of a workflow, which may take several attempts: how many of them had no answer."""

    def __init__(self, workflow: OutgoingWorkflow) -> None:
        self._workflow = workflow
        self._unanswered = 0

    async def by(self, calls: Calls, within_s: float) -> SendResult:
        """One attempt."""
        self._unanswered += 1
        outcome = await calls.submit_workflow(self._workflow, within_s)
        self._unanswered -= 1
        return outcome

    def answered(self, outcome: SendResult) -> SendResult:
        """What an answer says of the workflow."""
        return as_known(outcome, is_first=not self._unanswered)

    def failed(self, error: HyrexError) -> SendResult:
        """What is known of it after an error."""
        if isinstance(error, BrokerUnavailable):
            return Progress.UNANSWERED if self._unanswered else Progress.WAITING
        return refusal_of(error)
