"""What the SDK needs of a backend: a broker, or the inline backend of tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hyrex.backend.outgoing import Outgoing, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.errors import HyrexError
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus

__all__ = ["Backend", "OutsideAnswer", "Replay", "Watched"]


@dataclass(slots=True)
class Watched:
    """What a watch has seen until it ended or its timeout passed."""

    states: dict[str, TaskSnapshot] = field(default_factory=dict)
    failures: dict[str, HyrexError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutsideAnswer:
    """How a task that no worker runs is to end: with a result, or with an error (it has a type, then)."""

    task_id: str
    result: bytes = b""
    error_type: str = ""
    error_message: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """A task that is to be like an earlier one. `payload`: None for the earlier one's."""

    task_id: str
    new_id: str
    payload: bytes | None = None


class Backend(Protocol):
    """Stores, reads, watches and cancels tasks."""

    @property
    def is_silent(self) -> bool:
        """True if there was no answer, and no broker said why."""
        ...

    @property
    def silence(self) -> str:
        """The beginning of an error text for a call without an answer."""

    def store(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """Store tasks; return their results in order. Those WAITING or UNANSWERED had no answer in time."""

    async def store_async(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """As store(), for a caller on an event loop."""

    def get(self, task_id: str) -> TaskSnapshot:
        """Read one task. Raises TaskNotFound, BrokerUnavailable, CallRejected."""

    async def get_async(self, task_id: str) -> TaskSnapshot:
        """As get()."""

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """Wait until all have ended, or for `timeout_s`. Raises BrokerUnavailable if no broker answered."""

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """As watch()."""

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Cancel a task. Return its status now, None if it had ended before. Raises as get()."""

    async def cancel_async(self, task_id: str, reason: str) -> TaskStatus | None:
        """As cancel()."""

    def dismiss(self, task_id: str) -> bool:
        """Dismiss a dead letter. Return False if the task is none. Raises as get()."""

    async def dismiss_async(self, task_id: str) -> bool:
        """As dismiss()."""

    def complete(self, end: OutsideAnswer) -> bool:
        """End a task that waits for a call from outside. Return False if it had ended already. Raises as
        get(), NotWaiting."""

    async def complete_async(self, end: OutsideAnswer) -> bool:
        """As complete()."""

    def retry(self, task_id: str) -> bool:
        """Run a task that has ended again: of a workflow, its nodes that ended badly. Return False if there
        is nothing to run. Raises as get()."""

    async def retry_async(self, task_id: str) -> bool:
        """As retry()."""

    def store_workflow(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow, or nothing of it; what became of its own task. Raises nothing that a send's
        answer can say."""

    async def store_workflow_async(self, workflow: OutgoingWorkflow) -> SendResult:
        """As store_workflow()."""

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """Read a workflow and its nodes, by the id of any of them. Raises as get()."""

    async def get_workflow_async(self, task_id: str) -> WorkflowSnapshot:
        """As get_workflow()."""

    def replay(self, replay: Replay) -> None:
        """Store a task like an earlier one. Raises as get(), SendRejected, QueueFull."""

    async def replay_async(self, replay: Replay) -> None:
        """As replay()."""
