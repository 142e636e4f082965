"""A workflow whose nodes run where it was sent, by the broker's rules: in order, with what they are given."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from hyrex.backend.encoding import codec_name
from hyrex.backend.origin import Origin
from hyrex.backend.outgoing import Outgoing
from hyrex.backend.outgoing_workflow import OutgoingWorkflow, sinks_of
from hyrex.backend.workflow_state import NodeSnapshot, WorkflowSnapshot
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.testing.rounds import Way
from hyrex.testing.sent_task import state_without_runs
from hyrex.worker.shared.runs import NodeOfRun

__all__ = ["InlineWorkflow"]

_SKIPPED: Final = "skipped"


class NodeRunner(Protocol):
    """What runs a node."""

    async def run_node(self, outgoing: Outgoing, node: NodeOfRun, way: Way) -> BaseException | None:
        """Note its end; return its last run's error."""

    def wait_for_call(self, outgoing: Outgoing, node: str) -> None:
        """Have a node wait until a call from outside ends it."""


class InlineWorkflow:
    """One workflow, and how far it is."""

    def __init__(self, outgoing: OutgoingWorkflow, states: dict[str, TaskSnapshot]) -> None:
        """`states`: of all tasks by their ids; of its nodes those that have ended or wait for a call."""
        self._outgoing = outgoing
        self._states = states
        self._ids = [outgoing.tasks[at].task_id for at in range(1, len(outgoing.tasks))]

    @property
    def root(self) -> Outgoing:
        """The workflow's own task."""
        return self._outgoing.root

    @property
    def waits_for(self) -> list[str]:
        """The names of the nodes that a call from outside is to end."""
        return [
            name
            for name, task_id in zip(self._outgoing.names, self._ids, strict=True)
            if task_id in self._states and not self._states[task_id].status.is_final
        ]

    async def run(self, runner: NodeRunner, way: Way) -> tuple[TaskSnapshot, BaseException | None]:
        """Run the nodes that can run; return how the workflow stands then, and the first error of a node."""
        first: BaseException | None = None
        for at, task_id in enumerate(self._ids):
            if task_id in self._states or not self._is_due(at):
                continue
            task = self._task(at)
            if (cause := self._not_run(at)) is not None:
                self._states[task_id] = _cancelled(task, cause, self._outgoing.names[at])
            elif task.spec.task.is_outside:
                runner.wait_for_call(task, self._outgoing.names[at])
            else:
                error = await runner.run_node(task, self._given(at), way)
                first = first or error
        if self._fails_fast:
            self.cancel_rest()
        return self._state(), first

    def reopen(self) -> None:
        """Have the nodes run again that did not complete."""
        for task_id, end in self._ends.items():
            if _is_bad(end):
                del self._states[task_id]

    def cancel_rest(self) -> None:
        """Cancel all that has not ended."""
        for at, task_id in enumerate(self._ids):
            if not self.state_of(at).status.is_final:
                self._states[task_id] = _cancelled(self._task(at), "requested", self._outgoing.names[at])

    def snapshot(self) -> WorkflowSnapshot:
        """How it stands."""
        nodes = [
            NodeSnapshot(name, self.state_of(at), self._before(at))
            for at, name in enumerate(self._outgoing.names)
        ]
        root = self.root
        return WorkflowSnapshot(self._states[root.task_id], tuple(nodes), dict(root.spec.options.headers))

    def node(self, task_id: str) -> TaskSnapshot:
        """How one of its nodes stands."""
        return self.state_of(self._ids.index(task_id))

    def state_of(self, at: int) -> TaskSnapshot:
        """How the node at a place stands."""
        waits = self._states.get(self._ids[at])
        return waits or state_without_runs(self._task(at), TaskStatus.BLOCKED, self._outgoing.names[at])

    @property
    def _ends(self) -> dict[str, TaskSnapshot]:
        """Of the nodes that have ended, by their ids, in their order."""
        found = {each: self._states[each] for each in self._ids if each in self._states}
        return {task_id: state for task_id, state in found.items() if state.status.is_final}

    @property
    def _fails_fast(self) -> bool:
        """Return True if nothing is to run any more since a node ended badly."""
        return self._outgoing.fail_fast and any(map(_is_bad, self._ends.values()))

    def _task(self, at: int) -> Outgoing:
        task, root = self._outgoing.tasks[at + 1], self._outgoing.root.task_id
        task.origin = Origin(root, root, task.origin.trace_context)
        return task

    def _before(self, at: int) -> tuple[str, ...]:
        return tuple(self._outgoing.names[each.node] for each in self._outgoing.upstreams[at])

    def _is_due(self, at: int) -> bool:
        return all(self.state_of(each.node).status.is_final for each in self._outgoing.upstreams[at])

    def _not_run(self, at: int) -> str | None:
        """Why a node does not run; None if it does."""
        if self._fails_fast:
            return "requested"
        waits = self._outgoing.upstreams[at]
        return (
            _SKIPPED
            if any(_is_bad(self.state_of(each.node)) and not each.runs_anyway for each in waits)
            else None
        )

    def _given(self, at: int) -> NodeOfRun:
        root = self._outgoing.root
        results = [
            (each.parameter, end.runs[-1].result or b"null", end.name)
            for each in self._outgoing.upstreams[at]
            if each.parameter and not _is_bad(end := self.state_of(each.node))
        ]
        name = self._outgoing.names[at]
        return NodeOfRun(root.spec.config.name, name, tuple(results), root.payload, codec_name(root.spec))

    def _state(self) -> TaskSnapshot:
        names = self._outgoing.names
        ends = [self.state_of(at) for at in range(len(names))]
        if not all(end.status.is_final for end in ends):
            return state_without_runs(self.root, TaskStatus.BLOCKED)
        bad = [f"{name} ({end.status})" for name, end in zip(names, ends, strict=True) if _is_bad(end)]
        if bad:
            return _ended(self.root, TaskStatus.FAILED, error=TaskError("WorkflowFailed", ", ".join(bad), ""))
        sinks = {names[at]: self._ids[at] for at in sinks_of(self._outgoing.upstreams)}
        return _ended(self.root, TaskStatus.COMPLETED, result=json.dumps({"sinks": sinks}).encode())


def _is_bad(end: TaskSnapshot) -> bool:
    return end.status is not TaskStatus.COMPLETED


def _ended(
    task: Outgoing, status: TaskStatus, *, result: bytes | None = None, error: TaskError | None = None
) -> TaskSnapshot:
    now = datetime.now(UTC)
    run = RunSnapshot(0, 0, status, result, error, "", now, now, "")
    return replace(state_without_runs(task, status), runs=(run,))


def _cancelled(task: Outgoing, cause: str, node: str) -> TaskSnapshot:
    ended = _ended(task, TaskStatus.CANCELLED)
    return replace(ended, runs=(replace(ended.runs[0], cause=cause),), node=node)
