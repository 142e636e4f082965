"""A task that was sent in a test: what the test may ask of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hyrex.backend.bound import with_results
from hyrex.backend.outgoing import Outgoing
from hyrex.codec import PayloadInfo
from hyrex.handle import TaskHandle
from hyrex.options import TaskConfig
from hyrex.task import HyrexTask, decoded_result
from hyrex.worker.shared.runs import NodeOfRun

__all__ = ["SentTask"]


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
