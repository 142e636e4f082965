"""A workflow whose nodes run where it was sent, by the broker's rules: in order, with what they are given."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from hyrex.backend.encoding import codec_name
from hyrex.backend.origin import Origin
from hyrex.backend.outgoing import Outgoing, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.workflow_state import NodeSnapshot, WorkflowSnapshot
from hyrex.errors import TaskNotFound
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.testing.rounds import InLoop, InThread, Way
from hyrex.testing.sent_task import SentTask
from hyrex.worker.shared.runs import NodeOfRun

__all__ = ["InlineWorkflow", "WorkflowsInPlace"]

_SKIPPED: Final = "skipped"


class NodeRunner(Protocol):
    """What runs a node."""

    async def run_node(
        self, outgoing: Outgoing, node: NodeOfRun, way: Way
    ) -> tuple[TaskSnapshot, BaseException | None]:
        """Return its end, and its last run's error."""

    def wait_for_call(self, outgoing: Outgoing) -> None:
        """Have a node wait until a call from outside ends it."""


class InlineWorkflow:
    """One workflow, and how far it is."""

    def __init__(self, outgoing: OutgoingWorkflow) -> None:
        self._outgoing = outgoing
        self._ends: dict[int, TaskSnapshot] = {}
        self._waiting: dict[int, Outgoing] = {}
        """Nodes that a call from outside ends, by their places."""

    @property
    def root(self) -> Outgoing:
        """The workflow's own task."""
        return self._outgoing.root

    @property
    def waits_for(self) -> list[str]:
        """The names of the nodes that a call from outside is to end."""
        return [self._outgoing.names[at] for at in self._waiting]

    async def run(self, runner: NodeRunner, way: Way) -> tuple[TaskSnapshot, BaseException | None]:
        """Run the nodes that can run; return how the workflow stands then, and the first error of a node."""
        first: BaseException | None = None
        for at in range(len(self._outgoing.names)):
            if at in self._ends or at in self._waiting or not self._is_due(at):
                continue
            task = self._task(at)
            if (cause := self._not_run(at)) is not None:
                self._ends[at] = _cancelled(task, cause)
            elif task.spec.task.is_outside:
                self._waiting[at] = task
                runner.wait_for_call(task)
            else:
                self._ends[at], error = await runner.run_node(task, self._given(at), way)
                first = first or error
        if self._outgoing.fail_fast and any(map(_is_bad, self._ends.values())):
            self.cancel_rest()
        return self._state(), first

    def reopen(self) -> None:
        """Have the nodes run again that did not complete."""
        self._ends = {at: end for at, end in self._ends.items() if not _is_bad(end)}

    def ended(self, state: TaskSnapshot) -> None:
        """Note that a call from outside has ended a node."""
        (at,) = (at for at, task in self._waiting.items() if task.task_id == state.task_id)
        del self._waiting[at]
        self._ends[at] = state

    def cancel_rest(self) -> None:
        """Cancel all that has not ended."""
        self._waiting.clear()
        for at in range(len(self._outgoing.names)):
            self._ends.setdefault(at, _cancelled(self._task(at), "requested"))

    def snapshot(self, states: Mapping[str, TaskSnapshot]) -> WorkflowSnapshot:
        """How it stands; `states` has that of its own task."""
        nodes = [
            NodeSnapshot(
                name, self._ends.get(at) or _state(self._task(at), TaskStatus.BLOCKED), self._before(at)
            )
            for at, name in enumerate(self._outgoing.names)
        ]
        root = self._outgoing.root
        return WorkflowSnapshot(states[root.task_id], tuple(nodes), dict(root.spec.options.headers))

    @property
    def ends(self) -> Iterable[TaskSnapshot]:
        """Of all its nodes that have ended."""
        return self._ends.values()

    def _task(self, at: int) -> Outgoing:
        task, root = self._outgoing.tasks[at + 1], self._outgoing.root.task_id
        task.origin = Origin(root, root, task.origin.trace_context)
        return task

    def _before(self, at: int) -> tuple[str, ...]:
        return tuple(self._outgoing.names[each.node] for each in self._outgoing.upstreams[at])

    def _is_due(self, at: int) -> bool:
        return all(each.node in self._ends for each in self._outgoing.upstreams[at])

    def _not_run(self, at: int) -> str | None:
        """Why a node does not run; None if it does."""
        if self._outgoing.fail_fast and any(map(_is_bad, self._ends.values())):
            return "requested"
        waits = self._outgoing.upstreams[at]
        return (
            _SKIPPED
            if any(_is_bad(self._ends[each.node]) and not each.runs_anyway for each in waits)
            else None
        )

    def _given(self, at: int) -> NodeOfRun:
        root = self._outgoing.root
        results = [
            (each.parameter, end.runs[-1].result or b"null", end.name)
            for each in self._outgoing.upstreams[at]
            if each.parameter and not _is_bad(end := self._ends[each.node])
        ]
        name = self._outgoing.names[at]
        return NodeOfRun(root.spec.config.name, name, tuple(results), root.payload, codec_name(root.spec))

    def _state(self) -> TaskSnapshot:
        names = self._outgoing.names
        if len(self._ends) < len(names):
            return _state(self.root, TaskStatus.BLOCKED)
        bad = [f"{names[at]} ({end.status})" for at, end in self._ends.items() if _is_bad(end)]
        if bad:
            return _ended(self.root, TaskStatus.FAILED, error=TaskError("WorkflowFailed", ", ".join(bad), ""))
        waited_for = {each.node for upstreams in self._outgoing.upstreams for each in upstreams}
        sinks = {names[at]: end.task_id for at, end in self._ends.items() if at not in waited_for}
        return _ended(self._outgoing.root, TaskStatus.COMPLETED, result=json.dumps({"sinks": sinks}).encode())


def _is_bad(end: TaskSnapshot) -> bool:
    return end.status is not TaskStatus.COMPLETED


def _state(task: Outgoing, status: TaskStatus) -> TaskSnapshot:
    config = task.spec.config
    return TaskSnapshot(task.task_id, config.name, config.queue, status, ())


def _ended(
    task: Outgoing, status: TaskStatus, *, result: bytes | None = None, error: TaskError | None = None
) -> TaskSnapshot:
    now = datetime.now(UTC)
    run = RunSnapshot(0, 0, status, result, error, "", now, now, "")
    return replace(_state(task, status), runs=(run,))


def _cancelled(task: Outgoing, cause: str) -> TaskSnapshot:
    ended = _ended(task, TaskStatus.CANCELLED)
    return replace(ended, runs=(replace(ended.runs[0], cause=cause),))


class WorkflowsInPlace:
    """What InlineTasks does with workflows."""

    calls: list[SentTask]
    _states: dict[str, TaskSnapshot]
    _workflows: dict[str, InlineWorkflow]

    async def _store(self, outgoing: Outgoing, way: Way) -> SendResult:
        raise NotImplementedError

    async def _begin(self, task: SentTask, way: Way) -> TaskSnapshot:
        raise NotImplementedError

    def store_workflow(self, workflow: OutgoingWorkflow) -> SendResult:
        """Run a workflow's nodes, one after the other."""
        return InThread.drive(self._store_workflow(workflow, InThread()))

    async def store_workflow_async(self, workflow: OutgoingWorkflow) -> SendResult:
        """As store_workflow(), coroutines on this loop."""
        return await self._store_workflow(workflow, InLoop())

    async def _store_workflow(self, workflow: OutgoingWorkflow, way: Way) -> SendResult:
        made = InlineWorkflow(workflow)
        for outgoing in workflow.tasks:
            self._workflows[outgoing.task_id] = made
        return await self._store(workflow.root, way)

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """One workflow as it stands."""
        if task_id not in self._workflows:
            raise TaskNotFound(f"no workflow has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")
        return self._workflows[task_id].snapshot(self._states)

    async def get_workflow_async(self, task_id: str) -> WorkflowSnapshot:
        """As get_workflow()."""
        return self.get_workflow(task_id)

    def retry(self, task_id: str) -> bool:
        """Run a task again that has ended badly; of a workflow, its nodes that have."""
        return InThread.drive(self._retry(task_id, InThread()))

    async def retry_async(self, task_id: str) -> bool:
        """As retry()."""
        return await self._retry(task_id, InLoop())

    async def _retry(self, task_id: str, way: Way) -> bool:
        call = self._call_of(task_id)
        if not _is_bad(self._states[task_id]) or not self._states[task_id].status.is_final:
            return False
        if task_id in self._workflows:
            self._workflows[task_id].reopen()
        await self._begin(call, way)
        return True

    async def _go_on(self, ended: TaskSnapshot, way: Way) -> None:
        """Run what waited for a node that a call from outside has ended."""
        workflow = self._workflows.get(ended.task_id)
        if workflow is not None and workflow.root.task_id != ended.task_id:
            workflow.ended(ended)
            await self._begin(self._call_of(workflow.root.task_id), way)

    def _call_of(self, task_id: str) -> SentTask:
        for call in self.calls:
            if call._outgoing.task_id == task_id:
                return call
        raise TaskNotFound(f"no task has the id {task_id}", "NOT_FOUND", "TASK_NOT_FOUND")
