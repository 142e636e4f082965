"""A task that was sent in a test: what the test may ask of it, and how it stands without a worker."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from hyrex.backend.bound import with_results
from hyrex.backend.encoding import encoded
from hyrex.backend.origin import origin_here
from hyrex.backend.outgoing import Outgoing
from hyrex.backend.protocol import OutsideAnswer, Replay
from hyrex.backend.send_spec import SendSpec
from hyrex.codec import PayloadInfo
from hyrex.handle import TaskHandle
from hyrex.options import TaskConfig
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.task import HyrexTask, decoded_result
from hyrex.worker.shared.runs import NodeOfRun

__all__ = ["SentTask", "ended_by", "state_without_runs"]


@dataclass(frozen=True, slots=True)
class SentTask:
    """One task that was sent, for the assertions of a test."""

    handle: TaskHandle[Any]
    config: TaskConfig
    run_at: datetime | None
    _outgoing: Outgoing = field(repr=False)
    _node: NodeOfRun | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.config.name

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by parameter name, as a worker would get them."""
        task, payload = self._outgoing.spec.task, self._outgoing.payload
        if (codecs := task._stack.codecs) is not None:
            payload = codecs.decode(codecs.name, payload, PayloadInfo(self.name, "arguments"))
        if self._node is not None and isinstance(task, HyrexTask):
            given = [
                (parameter, decoded_result(task, result, of)) for parameter, result, of in self._node.results
            ]
            payload = with_results(self.name, payload, given)
        return task._coder.decode_arguments(payload)

    def replayed(self, replay: Replay) -> Outgoing:
        """A task like this one, to be sent."""
        earlier = self._outgoing
        options = replace(earlier.spec.options, idempotency_key=None, delay=None, run_at=None)
        spec = SendSpec(earlier.spec.task, earlier.spec.config, options)
        payload = earlier.payload if replay.payload is None else encoded(spec, replay.payload)
        return Outgoing(replay.new_id, spec, payload, origin_here())


def state_without_runs(outgoing: Outgoing, status: TaskStatus, node: str = "") -> TaskSnapshot:
    """How a task stands that has not run. `node`: what it is called in its workflow."""
    config = outgoing.spec.config
    return TaskSnapshot(outgoing.task_id, config.name, config.queue, status, (), node=node)


def ended_by(end: OutsideAnswer, state: TaskSnapshot, now: datetime) -> TaskSnapshot:
    """How a task stands that a call from outside has ended."""
    status = TaskStatus.FAILED if end.error_type else TaskStatus.COMPLETED
    error = TaskError(end.error_type, end.error_message, "") if end.error_type else None
    result = None if error else end.result
    run = RunSnapshot(0, 0, status, result, error, end.reason, None, now, "")
    return replace(state, status=status, runs=(run,))
