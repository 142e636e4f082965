"""Sends of workflows: one unary call each, repeated until it is answered or its time is over."""

from collections.abc import Sequence

from hyrex.backend.outgoing import Outgoing, Progress, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.client.postponed import persist, persist_async
from hyrex.client.submitter import as_known
from hyrex.client.unary import UnaryCalls
from hyrex.errors import BrokerUnavailable, HyrexError
from hyrex.transport.calls import Calls
from hyrex.transport.workflows import refusal_of

__all__ = ["WorkflowSends"]


class WorkflowSends:
    """Sends of workflows, repeated as those of tasks are: by `calls`, for `within_s` seconds."""

    def __init__(self, calls: UnaryCalls, within_s: float) -> None:
        self._calls = calls
        self._within_s = within_s

    def store(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow, blocking the calling thread."""
        submit = _Submit(workflow)

        def store(_: Sequence[Outgoing], within_s: float) -> list[SendResult]:
            try:
                return [submit.answered(self._calls.ask(lambda calls: submit.by(calls, within_s), within_s))]
            except HyrexError as error:
                return [submit.failed(error)]

        return persist(store, [workflow.root], self._within_s)[0]

    async def store_async(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow, awaiting on the caller's loop."""
        submit = _Submit(workflow)

        async def store(_: Sequence[Outgoing], within_s: float) -> list[SendResult]:
            try:
                answer = await self._calls.ask_async(lambda calls: submit.by(calls, within_s), within_s)
                return [submit.answered(answer)]
            except HyrexError as error:
                return [submit.failed(error)]

        return (await persist_async(store, [workflow.root], self._within_s))[0]


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
