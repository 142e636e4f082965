"""Run tasks where they are sent: no broker, no worker, the same rules.

Arguments and results make the full round trip through bytes, the context is set, retries follow
at once without their delays, `on_error` is called. A task that ends without success raises its
error where it was sent.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hyrex.app import HyrexApp
from hyrex.client.backend import Watched
from hyrex.client.process import replace_backend
from hyrex.errors import TaskNotFound
from hyrex.handle import TaskHandle
from hyrex.outgoing import Deduplicated, Outcome, Outgoing
from hyrex.registry import HyrexRegistry
from hyrex.results import result_of
from hyrex.runs import TaskState
from hyrex.task import HyrexTask, RemoteTask
from hyrex.testing.rounds import InLoop, InThread, Way, run_rounds

__all__ = ["InlineTasks", "inline"]


@contextmanager
def inline(*sources: HyrexApp | HyrexRegistry, raise_failures: bool = True) -> "Iterator[InlineTasks]":
    """Run every task that is sent in this process in place, until the block ends.

    `sources` hold the functions behind `hy.remote` stubs. With `raise_failures=False` a failed
    task raises nothing where it was sent, only at `result()`, as with a real broker.
    """
    tasks = InlineTasks(sources, raise_failures)
    before = replace_backend(tasks)
    try:
        yield tasks
    finally:
        replace_backend(before)


@dataclass(slots=True)
class InlineTasks:
    """The tasks that were sent; `sent` are their handles, in the order in which they were sent."""

    sources: Sequence[HyrexApp | HyrexRegistry] = ()
    raise_failures: bool = True
    sent: list[TaskHandle[Any]] = field(default_factory=list)
    _states: dict[str, TaskState] = field(default_factory=dict)
    _first_ids: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def silence(self) -> str:
        """Never needed: an inline task always answers."""
        return "no answer"

    def store(self, tasks: Sequence[Outgoing]) -> list[Outcome]:
        """Run the tasks, one after the other."""
        return [InThread.drive(self._store(task, InThread())) for task in tasks]

    async def store_async(self, tasks: Sequence[Outgoing]) -> list[Outcome]:
        """Run the tasks, one after the other, coroutines on this loop."""
        return [await self._store(task, InLoop()) for task in tasks]

    async def _store(self, outgoing: Outgoing, way: Way) -> Outcome:
        if outgoing.task_id in self._states:
            return self._states[outgoing.task_id]
        key = outgoing.target.options.idempotency_key
        if key is not None:
            first = self._first_ids.setdefault((outgoing.target.config.name, key), outgoing.task_id)
            if first != outgoing.task_id:
                return self._states.get(first, Deduplicated(first))
        self.sent.append(TaskHandle.of(outgoing))
        at = len(self.sent) - 1
        state, error = await run_rounds(outgoing, self._function(outgoing), way)
        self._states[outgoing.task_id] = state
        self.sent[at].observed(state)
        if error is not None and self.raise_failures:
            if isinstance(error, SystemExit):
                result_of(state, bytes)  # raises TaskFailed: a task that exits does not end the test
            raise error
        return state

    def _function(self, outgoing: Outgoing) -> HyrexTask[..., Any]:
        task = outgoing.target.task
        if not isinstance(task, RemoteTask):
            return task
        for source in self.sources:
            if task.name in source.tasks:
                return source.tasks[task.name]
        raise LookupError(f"{task.name} is a remote stub: give inline() the app or registry that defines it")

    def get(self, task_id: str) -> TaskState:
        """One task as it stands."""
        if task_id not in self._states:
            raise TaskNotFound(f"no task has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")
        return self._states[task_id]

    async def get_async(self, task_id: str) -> TaskState:
        """One task as it stands."""
        return self.get(task_id)

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """All tasks have ended already."""
        return Watched({task_id: self.get(task_id) for task_id in task_ids})

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """All tasks have ended already."""
        return self.watch(task_ids, timeout_s)

    def cancel(self, task_id: str, reason: str) -> bool:
        """There is never anything left to cancel."""
        self.get(task_id)
        return False

    async def cancel_async(self, task_id: str, reason: str) -> bool:
        """There is never anything left to cancel."""
        return self.cancel(task_id, reason)
