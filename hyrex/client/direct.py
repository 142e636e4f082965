"""A backend without thread or event loop: each call is made in the caller's thread, on a channel of its own.

For callers that interrupt the client: a signal handler, or a finalizer in the client's own thread. The
client's thread could not answer them, and gRPC loses answers if a process has a second event loop for it.
Calls made here are slower, and share nothing with any other call, so they may be interrupted too.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from hyrex.address import HOW_TO_REACH_ONE, trusted_url
from hyrex.backend.outgoing import Outgoing, Progress, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.protocol import OutsideAnswer, Replay, Watched
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.client.outbox import FrameSpace
from hyrex.client.postponed import persist
from hyrex.client.submitter import as_known
from hyrex.config import Settings
from hyrex.errors import BrokerUnavailable, SendRejected, TaskNotFound
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.transport.blocking import BlockingCalls
from hyrex.transport.channel import spread
from hyrex.transport.convert import sizes_in_frame, submit_outcome
from hyrex.transport.errors import CallFailed
from hyrex.transport.workflows import refusal_of

__all__ = ["DirectBackend"]

T = TypeVar("T")
LOOK_EVERY_S: Final = 0.2


class DirectBackend:
    """Does what RemoteBackend does for blocking callers, one call at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        addresses = spread(trusted_url(settings.broker_url, settings.token))
        self._calls = BlockingCalls(addresses, settings.token, settings.send_timeout_s)
        self._calling = threading.RLock()

    def pause(self, within_s: float) -> bool:
        """Wait until no other thread is in a call, and let none begin one; False if that takes longer."""
        return self._calling.acquire(timeout=within_s)

    def resume(self) -> None:
        """After pause() that was in time."""
        self._calling.release()

    def store(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """Store tasks; if one gets no answer, those after it are not sent."""
        return persist(self._store, tasks, self._settings.send_timeout_s)

    def _store(self, tasks: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        sizes = sizes_in_frame(tasks)
        outcomes: list[SendResult] = [Progress.WAITING] * len(tasks)
        at = 0
        while at < len(tasks):
            end = FrameSpace().fill(sizes, at, len(tasks))
            outcomes[at:end] = self._submit(tasks[at:end], within_s)
            if outcomes[at] is Progress.UNANSWERED:
                break
            at = end
        return outcomes

    def _submit(self, tasks: Sequence[Outgoing], within_s: float) -> Sequence[SendResult]:
        try:
            with self._calling:
                submitted = self._calls.submit(tasks, within_s)
        except CallFailed as error:
            unknown = error.failure.repeatable or error.failure.reason == "INTERNAL"
            return [Progress.UNANSWERED if unknown else error.failure.exception()] * len(tasks)
        if len(submitted.answers) != len(tasks):
            refusal = SendRejected("the broker answered another number of tasks than were sent")
            return [refusal] * len(tasks)
        found = map(submit_outcome, tasks, submitted.answers)
        return [as_known(outcome, is_first=submitted.is_first) for outcome in found]

    def get(self, task_id: str) -> TaskSnapshot:
        """Read one task."""
        return self._answered(lambda: self._calls.get(task_id))

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Cancel a task."""
        return self._answered(lambda: self._calls.cancel(task_id, reason))

    def dismiss(self, task_id: str) -> bool:
        """Dismiss a dead letter."""
        return self._answered(lambda: self._calls.dismiss(task_id))

    def store_workflow(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow."""

        def store(_: Sequence[Outgoing], within_s: float) -> list[SendResult]:
            return [self._submit_workflow(workflow, within_s)]

        return persist(store, [workflow.root], self._settings.send_timeout_s)[0]

    def _submit_workflow(self, workflow: OutgoingWorkflow, within_s: float) -> SendResult:
        try:
            with self._calling:
                outcome, is_first = self._calls.submit_workflow(workflow, within_s)
        except CallFailed as error:
            return Progress.UNANSWERED if error.failure.repeatable else refusal_of(error.failure.exception())
        return as_known(outcome, is_first=is_first)

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """Read one workflow."""
        return self._answered(lambda: self._calls.get_workflow(task_id))

    def retry(self, task_id: str) -> bool:
        """Have a task run again."""
        return self._answered(lambda: self._calls.retry(task_id))

    def complete(self, end: OutsideAnswer) -> bool:
        """End a task that waits for a call from outside."""
        return self._answered(lambda: self._calls.complete(end))

    def replay(self, replay: Replay) -> None:
        """Store a task like an earlier one."""
        self._answered(lambda: self._calls.replay(replay))

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """Wait for tasks by reading them repeatedly."""
        seen = Watched()
        ends = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        pending = set(task_ids)
        while pending:
            self._look(pending, seen)
            if time.monotonic() >= ends:
                break
            if pending:
                time.sleep(LOOK_EVERY_S)
        return seen

    def _look(self, pending: set[str], seen: Watched) -> None:
        for task_id in list(pending):
            try:
                state = seen.states[task_id] = self.get(task_id)
            except TaskNotFound as error:
                seen.failures[task_id] = error
                pending.discard(task_id)
            else:
                if state.status.is_final:
                    pending.discard(task_id)

    def _answered(self, call: Callable[[], T]) -> T:
        try:
            with self._calling:
                return call()
        except CallFailed as error:
            failure = error.failure
        if not failure.repeatable:
            raise failure.exception()
        within = f"{self._settings.send_timeout_s:g} s"
        url = self._settings.broker_url
        raise BrokerUnavailable(f"no answer from {url} within {within} ({failure}). {HOW_TO_REACH_ONE}")
