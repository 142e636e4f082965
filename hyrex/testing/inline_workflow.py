"""A workflow whose nodes run where it was sent, by the broker's rules: in order, with what they are given."""

import json
from collections.abc import Iterable, Mapping
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
                name,
                self._ends.get(at) or state_without_runs(self._task(at), TaskStatus.BLOCKED),
                self._before(at),
            )
            for at, name in enumerate(self._outgoing.names)
        ]
        root = self.root
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
            return state_without_runs(self.root, TaskStatus.BLOCKED)
        bad = [f"{names[at]} ({end.status})" for at, end in self._ends.items() if _is_bad(end)]
        if bad:
            return _ended(self.root, TaskStatus.FAILED, error=TaskError("WorkflowFailed", ", ".join(bad), ""))
        sinks = {names[at]: self._ends[at].task_id for at in sinks_of(self._outgoing.upstreams)}
        return _ended(self.root, TaskStatus.COMPLETED, result=json.dumps({"sinks": sinks}).encode())


def _is_bad(end: TaskSnapshot) -> bool:
    return end.status is not TaskStatus.COMPLETED


def _ended(
    task: Outgoing, status: TaskStatus, *, result: bytes | None = None, error: TaskError | None = None
) -> TaskSnapshot:
    now = datetime.now(UTC)
    run = RunSnapshot(0, 0, status, result, error, "", now, now, "")
    return replace(state_without_runs(task, status), runs=(run,))


def _cancelled(task: Outgoing, cause: str) -> TaskSnapshot:
    ended = _ended(task, TaskStatus.CANCELLED)
    return replace(ended, runs=(replace(ended.runs[0], cause=cause),))
