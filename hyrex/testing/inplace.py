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
from hyrex.backend.encoding import encoded
from hyrex.backend.known import observe
from hyrex.backend.origin import origin_here
from hyrex.backend.outgoing import Deduplicated, Outgoing, SendResult
from hyrex.backend.protocol import OutsideAnswer, Replay, Watched
from hyrex.backend.send_spec import SendSpec
from hyrex.client.process import replace_backend
from hyrex.errors import KeyBusy, NotWaiting, TaskNotFound
from hyrex.handle import TaskHandle, handle_of
from hyrex.registry import HyrexRegistry
from hyrex.results import result_of
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.task import HyrexTask, RemoteTask
from hyrex.testing.inline_workflow import InlineWorkflow, WorkflowsInPlace
from hyrex.testing.rounds import InLoop, InThread, Way, run_rounds
from hyrex.testing.sent_task import SentTask
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
class InlineTasks(WorkflowsInPlace):
    """The tasks that were sent; `sent` are their handles, `calls` tell more, both in the order of sending.

    `now` is the clock that delays go by; only `advance` moves it.
    """

    sources: Sequence[HyrexApp | HyrexRegistry] = ()
    raise_failures: bool = True
    sent: list[TaskHandle[Any]] = field(default_factory=list)
    calls: list[SentTask] = field(default_factory=list)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    _scheduled: dict[str, SentTask] = field(default_factory=dict)
    _outside: dict[str, SentTask] = field(default_factory=dict)
    _states: dict[str, TaskSnapshot] = field(default_factory=dict)
    _firsts: dict[tuple[str, str], Outgoing] = field(default_factory=dict)
    _running: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
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

    async def _store(self, outgoing: Outgoing, way: Way) -> SendResult:
        if outgoing.task_id in self._states:
            return self._states[outgoing.task_id]
        config, options = outgoing.spec.config, outgoing.spec.options
        if options.idempotency_key is not None:
            key = (config.name, options.idempotency_key)
            first = self._firsts.setdefault(key, outgoing)
            if first.task_id != outgoing.task_id:
                return self._deduplicated(first, outgoing)
        if (busy := self._busy(outgoing)) is not None:
            return busy
        run_at = self.now + options.delay if options.delay else options.run_at
        task = SentTask(handle_of(outgoing), config, run_at, outgoing)
        self.sent.append(task.handle)
        self.calls.append(task)
        if outgoing.spec.task.is_outside:
            return self._put_outside(task)
        if run_at is None or run_at <= self.now:
            return await self._begin(task, way)
        self._scheduled[outgoing.task_id] = task
        return self._observe(
            task, TaskSnapshot(outgoing.task_id, config.name, config.queue, TaskStatus.SCHEDULED, ())
        )

    def _busy(self, outgoing: Outgoing) -> KeyBusy | None:
        """The refusal of a task whose key has its maximum: of those that run, which send it. One that would
        wait runs all the same, since they wait for it."""
        key, options = _key(outgoing), outgoing.spec.options
        holders = [task_id for held, task_id in self._running if held == key]
        if options.on_full != "refuse" or not options.concurrency_key or len(holders) < options.max_per_key:
            return None
        name, most = outgoing.spec.config.name, options.max_per_key
        return KeyBusy(
            f"concurrency key {options.concurrency_key!r} of {name} has its maximum of {most}, and task"
            f" {holders[0]} holds it",
            "KEY_BUSY",
            {"key": options.concurrency_key, "limit": str(most), "holder": holders[0]},
        )

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
            self._states.update({each.task_id: each for each in workflow.ends})
        if error is not None and self.raise_failures:
            if not isinstance(error, Exception):
                result_of(state, bytes)  # raises TaskFailed or TaskTimedOut: what ends a run ends no test
            raise error
        return state

    async def run_node(
        self, outgoing: Outgoing, node: NodeOfRun, way: Way
    ) -> tuple[TaskSnapshot, BaseException | None]:
        """Run one node of a workflow; return its end and its last run's error."""
        task = SentTask(handle_of(outgoing), outgoing.spec.config, None, outgoing, node)
        self.sent.append(task.handle)
        self.calls.append(task)
        return await self._run(task, way)

    def wait_for_call(self, outgoing: Outgoing) -> None:
        """Have a node wait until complete() ends it."""
        task = SentTask(handle_of(outgoing), outgoing.spec.config, None, outgoing)
        self.sent.append(task.handle)
        self.calls.append(task)
        self._put_outside(task)

    def _put_outside(self, task: SentTask) -> TaskSnapshot:
        self._outside[task._outgoing.task_id] = task
        config = task.config
        return self._observe(
            task, TaskSnapshot(task._outgoing.task_id, config.name, config.queue, TaskStatus.BLOCKED, ())
        )

    async def _run(self, task: SentTask, way: Way) -> tuple[TaskSnapshot, BaseException | None]:
        if _depth.get() >= DEEPEST:
            raise RecursionError(
                f"{task.name} was sent {DEEPEST} runs deep, each by the one before; "
                "a task that sends itself again waits for advance() if it does so with a delay"
            )
        before, key = _depth.set(_depth.get() + 1), _key(task._outgoing)
        self._running.append((key, task._outgoing.task_id))
        try:
            function = self._function(task._outgoing)
            state, error = await run_rounds(task._outgoing, function, way, task._node)
        finally:
            self._running.remove((key, task._outgoing.task_id))
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
        if task_id not in self._states:
            raise TaskNotFound(f"no task has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")
        return self._states[task_id]

    async def get_async(self, task_id: str) -> TaskSnapshot:
        """One task as it stands."""
        return self.get(task_id)

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """The present states of tasks. Raises TimeoutError if one waits for the clock, which stands still."""
        for task_id in task_ids if timeout_s is None else ():
            if task_id in self._scheduled:
                task = self._scheduled[task_id]
                raise TimeoutError(f"{task.name} runs at {task.run_at}: move the clock with advance()")
            if task_id in self._outside:
                raise TimeoutError(f"{self._outside[task_id].name} waits for somebody to complete() it")
            if task_id in self._workflows and (names := self._workflows[task_id].waits_for):
                raise TimeoutError(f"it waits for somebody to complete() its {', '.join(names)}")
        return Watched({task_id: self.get(task_id) for task_id in task_ids})

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """As watch()."""
        return self.watch(task_ids, timeout_s)

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Cancel a task that waits, for the clock or a call from outside; all others have ended already."""
        state = self.get(task_id)
        if task_id in self._workflows and task_id not in self._outside:
            return self._cancel_workflow(self._workflows[task_id], state)
        task = self._scheduled.pop(task_id, None) or self._outside.pop(task_id, None)
        if task is not None:
            ended = self._observe(task, replace(state, status=TaskStatus.CANCELLED))
            InThread.drive(self._go_on(ended, InThread()))
        return None if task is None else TaskStatus.CANCELLED

    def _cancel_workflow(self, workflow: InlineWorkflow, state: TaskSnapshot) -> TaskStatus | None:
        if state.status.is_final:
            return None
        workflow.cancel_rest()
        for each in workflow.ends:
            self._outside.pop(each.task_id, None)
            self._states[each.task_id] = each
        self._scheduled.pop(state.task_id, None)
        self._observe(self._call_of(state.task_id), replace(state, status=TaskStatus.CANCELLED))
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
        task = self._outside.pop(end.task_id, None)
        if task is None:
            sent = (each._outgoing for each in self.calls if each._outgoing.task_id == end.task_id)
            if any(outgoing.spec.task.is_outside for outgoing in sent):
                return False
            raise NotWaiting(f"task {end.task_id} waits for no call from outside")
        status = TaskStatus.FAILED if end.error_type else TaskStatus.COMPLETED
        error = TaskError(end.error_type, end.error_message, "") if end.error_type else None
        result = None if error else end.result
        run = RunSnapshot(0, 0, status, result, error, end.reason, None, self.now, "")
        await self._go_on(self._observe(task, replace(state, status=status, runs=(run,))), way)
        return True

    def replay(self, replay: Replay) -> None:
        """Run a task like an earlier one."""
        self.store([self._replayed(replay)])

    async def replay_async(self, replay: Replay) -> None:
        """As replay()."""
        await self.store_async([self._replayed(replay)])

    def _replayed(self, replay: Replay) -> Outgoing:
        self.get(replay.task_id)
        (earlier,) = (each._outgoing for each in self.calls if each._outgoing.task_id == replay.task_id)
        options = replace(earlier.spec.options, idempotency_key=None, delay=None, run_at=None)
        spec = SendSpec(earlier.spec.task, earlier.spec.config, options)
        payload = earlier.payload if replay.payload is None else encoded(spec, replay.payload)
        return Outgoing(replay.new_id, spec, payload, origin_here())


def _key(outgoing: Outgoing) -> tuple[str, ...]:
    """The concurrency key of a task, with the queue and the name that it belongs to."""
    config, key = outgoing.spec.config, outgoing.spec.options.concurrency_key
    return (config.queue, config.name, key) if isinstance(key, str) else ()
