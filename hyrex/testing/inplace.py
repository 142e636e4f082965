"""Runs tasks where they are sent, without broker and worker, by the same rules.

Arguments and results are encoded and decoded, the context is set, retries follow at once without their
delays, and `on_error` is called. A task that does not complete raises its error where it was sent. A task
with a `delay` or a `run_at` waits until the test moves the clock.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hyrex.app import HyrexApp
from hyrex.backend.known import observe
from hyrex.backend.outgoing import Deduplicated, Outgoing, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.protocol import OutsideAnswer, Replay, Watched
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.client.process import replace_backend
from hyrex.errors import NotWaiting, TaskNotFound
from hyrex.handle import TaskHandle, handle_of
from hyrex.registry import HyrexRegistry
from hyrex.results import result_of
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.task import HyrexTask, RemoteTask
from hyrex.testing.held_keys import HeldKeys
from hyrex.testing.inline_workflow import InlineWorkflow
from hyrex.testing.rounds import InLoop, InThread, Way, run_rounds
from hyrex.testing.sent_task import SentTask, ended_by, state_without_runs
from hyrex.worker.shared.runs import NodeOfRun

__all__ = ["InlineTasks", "SentTask", "inline"]

DEEPEST: Final = 30
_depth: ContextVar[int] = ContextVar("hyrex_inline_depth", default=0)


@contextmanager
def inline(*sources: HyrexApp | HyrexRegistry, raise_failures: bool = True) -> "Iterator[InlineTasks]":
    """Run every task that is sent in this process in place, until the block ends.

    `sources` define the functions for `hy.remote` stubs. With `raise_failures=False` a failed task raises its
    error only at `result()`, as with a real broker, and not where it was sent.
    """
    tasks = InlineTasks(sources, raise_failures)
    before = replace_backend(tasks)
    try:
        yield tasks
    finally:
        replace_backend(before)


@dataclass(slots=True)
class InlineTasks:
    """The tasks that were sent; `sent` are their handles, `calls` tell more, both in the order of sending.

    `now` is the clock that delays go by; only `advance` moves it.
    """

    sources: Sequence[HyrexApp | HyrexRegistry] = ()
    raise_failures: bool = True
    sent: list[TaskHandle[Any]] = field(default_factory=list)
    calls: list[SentTask] = field(default_factory=list)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    _scheduled: dict[str, SentTask] = field(default_factory=dict)
    _states: dict[str, TaskSnapshot] = field(default_factory=dict)
    _firsts: dict[tuple[str, str], Outgoing] = field(default_factory=dict)
    _keys: HeldKeys = field(default_factory=HeldKeys)
    _workflows: dict[str, InlineWorkflow] = field(default_factory=dict)
    """By the id of the workflow's task, and of each of its nodes."""

    @property
    def is_silent(self) -> bool:
        """True if no broker said why there was no result."""
        return True

    @property
    def silence(self) -> str:
        """Never needed: an inline task always answers."""
        return "no answer"

    @property
    def scheduled(self) -> list[SentTask]:
        """The tasks that wait for the clock, the first due one first."""
        return sorted(self._scheduled.values(), key=lambda one: one.run_at or self.now)

    def advance(self, by: float | timedelta) -> None:
        """Move the clock by seconds, and run each task that becomes due, at its own time."""
        until = self.now + (by if isinstance(by, timedelta) else timedelta(seconds=by))
        while (task := self._due(until)) is not None:
            InThread.drive(self._run_scheduled(task, InThread()))
        self.now = until

    async def advance_async(self, by: float | timedelta) -> None:
        """As advance(), with coroutines on this loop."""
        until = self.now + (by if isinstance(by, timedelta) else timedelta(seconds=by))
        while (task := self._due(until)) is not None:
            await self._run_scheduled(task, InLoop())
        self.now = until

    def _due(self, until: datetime) -> SentTask | None:
        first = next(iter(self.scheduled), None)
        return first if first is not None and first.run_at is not None and first.run_at <= until else None

    async def _run_scheduled(self, task: SentTask, way: Way) -> None:
        del self._scheduled[task._outgoing.task_id]
        self.now = max(self.now, task.run_at or self.now)
        await self._begin(task, way)

    def store(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """Run the tasks, one after the other."""
        return [InThread.drive(self._store(task, InThread())) for task in tasks]

    async def store_async(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """Run the tasks, one after the other, coroutines on this loop."""
        return [await self._store(task, InLoop()) for task in tasks]

    def store_workflow(self, workflow: OutgoingWorkflow) -> SendResult:
        """Run a workflow's nodes, one after the other."""
        return InThread.drive(self._store_workflow(workflow, InThread()))

    async def store_workflow_async(self, workflow: OutgoingWorkflow) -> SendResult:
        """As store_workflow(), coroutines on this loop."""
        return await self._store_workflow(workflow, InLoop())

    async def _store_workflow(self, workflow: OutgoingWorkflow, way: Way) -> SendResult:
        made = InlineWorkflow(workflow, self._states)
        self._workflows.update({outgoing.task_id: made for outgoing in workflow.tasks})
        return await self._store(workflow.root, way)

    async def _store(self, outgoing: Outgoing, way: Way) -> SendResult:
        if outgoing.task_id in self._states:
            return self._states[outgoing.task_id]
        config, options = outgoing.spec.config, outgoing.spec.options
        if options.idempotency_key is not None:
            key = (config.name, options.idempotency_key)
            first = self._firsts.setdefault(key, outgoing)
            if first.task_id != outgoing.task_id:
                return self._deduplicated(first, outgoing)
        if (busy := self._keys.refusal(outgoing)) is not None:
            return busy
        run_at = self.now + options.delay if options.delay else options.run_at
        task = self._enter(SentTask(handle_of(outgoing), config, run_at, outgoing))
        if outgoing.spec.task.is_outside:
            return self._observe(task, state_without_runs(outgoing, TaskStatus.BLOCKED))
        if run_at is None or run_at <= self.now:
            return await self._begin(task, way)
        self._scheduled[outgoing.task_id] = task
        return self._observe(task, state_without_runs(outgoing, TaskStatus.SCHEDULED))

    def _enter(self, task: SentTask) -> SentTask:
        self.sent.append(task.handle)
        self.calls.append(task)
        return task

    def _call_of(self, task_id: str) -> SentTask:
        for call in reversed(self.calls):  # the last one, of a node that was run again
            if call._outgoing.task_id == task_id:
                return call
        raise TaskNotFound(f"no task has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")

    def _deduplicated(self, first: Outgoing, outgoing: Outgoing) -> Deduplicated:
        state = self._states.get(first.task_id)
        status = TaskStatus.RUNNING if state is None else state.status
        return Deduplicated(first.task_id, status, first.payload != outgoing.payload, state)

    def _observe(self, task: SentTask, state: TaskSnapshot) -> TaskSnapshot:
        self._states[state.task_id] = state
        observe(task.handle, state)
        return state

    async def _begin(self, task: SentTask, way: Way) -> TaskSnapshot:
        """Run it; of a workflow, its nodes. Raises the error of a run that failed, if that is wanted."""
        workflow = self._workflows.get(task._outgoing.task_id)
        if workflow is None:
            state, error = await self._run(task, way)
        else:
            state, error = await workflow.run(self, way)
            self._observe(task, state)
        if error is not None and self.raise_failures:
            if not isinstance(error, Exception):
                result_of(state, bytes)  # raises TaskFailed or TaskTimedOut: what ends a run ends no test
            raise error
        return state

    async def run_node(self, outgoing: Outgoing, node: NodeOfRun, way: Way) -> BaseException | None:
        """Run one node of a workflow; return its last run's error."""
        task = SentTask(handle_of(outgoing), outgoing.spec.config, None, outgoing, node)
        return (await self._run(self._enter(task), way))[1]

    def wait_for_call(self, outgoing: Outgoing, node: str) -> None:
        """Have a node wait until complete() ends it."""
        task = self._enter(SentTask(handle_of(outgoing), outgoing.spec.config, None, outgoing))
        self._observe(task, state_without_runs(outgoing, TaskStatus.BLOCKED, node))

    async def _run(self, task: SentTask, way: Way) -> tuple[TaskSnapshot, BaseException | None]:
        if _depth.get() >= DEEPEST:
            raise RecursionError(
                f"{task.name} was sent {DEEPEST} runs deep, each by the one before; "
                "a task that sends itself again waits for advance() if it does so with a delay"
            )
        before = _depth.set(_depth.get() + 1)
        try:
            with self._keys.held(task._outgoing):
                function = self._function(task._outgoing)
                state, error = await run_rounds(task._outgoing, function, way, task._node)
        finally:
            _depth.reset(before)
        return self._observe(task, state), error

    def _function(self, outgoing: Outgoing) -> HyrexTask[..., Any]:
        task, name = outgoing.spec.task, outgoing.spec.config.name
        if isinstance(task, HyrexTask) and not isinstance(task, RemoteTask):
            return task
        for source in self.sources:
            if name in source.tasks:
                return source.tasks[name]
        raise LookupError(f"{name} is a remote stub: give inline() the app or registry that defines it")

    def get(self, task_id: str) -> TaskSnapshot:
        """One task as it stands."""
        if task_id in self._states:
            return self._states[task_id]
        workflow = self._workflows.get(task_id)
        if workflow is None or workflow.root.task_id not in self._states:
            raise TaskNotFound(f"no task has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")
        return workflow.node(task_id)

    async def get_async(self, task_id: str) -> TaskSnapshot:
        """One task as it stands."""
        return self.get(task_id)

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """One workflow as it stands."""
        if task_id not in self._workflows:
            raise TaskNotFound(f"no workflow has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")
        return self._workflows[task_id].snapshot()

    async def get_workflow_async(self, task_id: str) -> WorkflowSnapshot:
        """As get_workflow()."""
        return self.get_workflow(task_id)

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """The present states of tasks. Raises TimeoutError if one waits for the clock, which stands still."""
        for task_id in task_ids if timeout_s is None else ():
            if task_id in self._scheduled:
                task = self._scheduled[task_id]
                raise TimeoutError(f"{task.name} runs at {task.run_at}: move the clock with advance()")
            if (asked := self._asked(task_id)) is not None:
                raise TimeoutError(f"{asked.name} waits for somebody to complete() it")
            if task_id in self._workflows and (names := self._workflows[task_id].waits_for):
                raise TimeoutError(f"it waits for somebody to complete() its {', '.join(names)}")
        return Watched({task_id: self.get(task_id) for task_id in task_ids})

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """As watch()."""
        return self.watch(task_ids, timeout_s)

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Cancel a task that waits: for the clock, other nodes or a call; all others have ended already."""
        state = self.get(task_id)
        if state.status.is_final:
            return None
        workflow = self._workflows.get(task_id)
        if workflow is not None and workflow.root.task_id == task_id:
            workflow.cancel_rest()
        ended = replace(state, status=TaskStatus.CANCELLED)
        if task_id in self._states:
            self._observe(self._call_of(task_id), ended)
        else:  # a node whose turn has not come
            self._states[task_id] = ended
        self._scheduled.pop(task_id, None)
        InThread.drive(self._go_on(ended, InThread()))
        return TaskStatus.CANCELLED

    async def cancel_async(self, task_id: str, reason: str) -> TaskStatus | None:
        """As cancel()."""
        return self.cancel(task_id, reason)

    def dismiss(self, task_id: str) -> bool:
        """Say whether a task is a dead letter; there is no list of these."""
        return self.get(task_id).status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.LOST)

    async def dismiss_async(self, task_id: str) -> bool:
        """As dismiss()."""
        return self.dismiss(task_id)

    def complete(self, end: OutsideAnswer) -> bool:
        """End a task that waits for a call from outside; of a workflow, what waited for it runs."""
        return InThread.drive(self._complete(end, InThread()))

    async def complete_async(self, end: OutsideAnswer) -> bool:
        """As complete()."""
        return await self._complete(end, InLoop())

    async def _complete(self, end: OutsideAnswer, way: Way) -> bool:
        state = self.get(end.task_id)
        task = self._asked(end.task_id)
        if task is None:
            sent = (each._outgoing for each in self.calls if each._outgoing.task_id == end.task_id)
            if any(outgoing.spec.task.is_outside for outgoing in sent):
                return False
            raise NotWaiting(f"task {end.task_id} waits for no call from outside")
        await self._go_on(self._observe(task, ended_by(end, state, self.now)), way)
        return True

    def _asked(self, task_id: str) -> SentTask | None:
        """The task, if it waits for a call from outside."""
        state = self._states.get(task_id)
        if state is None or state.status is not TaskStatus.BLOCKED:
            return None
        task = self._call_of(task_id)
        return task if task._outgoing.spec.task.is_outside else None

    async def _go_on(self, ended: TaskSnapshot, way: Way) -> None:
        """Run what waited for a node that a call from outside, or a cancel, has ended."""
        workflow = self._workflows.get(ended.task_id)
        if workflow is None or workflow.root.task_id in (ended.task_id, *self._scheduled):
            return
        await self._begin(self._call_of(workflow.root.task_id), way)

    def retry(self, task_id: str) -> bool:
        """Run a task again that has ended badly; of a workflow, its nodes that have."""
        return InThread.drive(self._retry(task_id, InThread()))

    async def retry_async(self, task_id: str) -> bool:
        """As retry()."""
        return await self._retry(task_id, InLoop())

    async def _retry(self, task_id: str, way: Way) -> bool:
        call, status = self._call_of(task_id), self._states[task_id].status
        if status is TaskStatus.COMPLETED or not status.is_final:
            return False
        if task_id in self._workflows:
            self._workflows[task_id].reopen()
        await self._begin(call, way)
        return True

    def replay(self, replay: Replay) -> None:
        """Run a task like an earlier one."""
        self.store([self._call_of(replay.task_id).replayed(replay)])

    async def replay_async(self, replay: Replay) -> None:
        """As replay()."""
        await self.store_async([self._call_of(replay.task_id).replayed(replay)])
