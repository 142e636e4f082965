"""Failures by their kind: the same task name, the same end, the same type of error.

They are grouped by who asks, from the newest that brokers list: no statement counts over tasks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.transport.filters import filter_line
from hyrex.v1 import task_pb2, task_service_pb2

__all__ = ["EVERY_FAILURE", "Kind", "error_type_of", "kinds_of", "line_of_kind"]

_DAY_S: Final = 86_400
EVERY_FAILURE: Final = task_service_pb2.ListTasksRequest(
    page_size=500,
    filter=task_service_pb2.TaskFilter(
        statuses=[task_pb2.TASK_STATUS_FAILED, task_pb2.TASK_STATUS_TIMED_OUT, task_pb2.TASK_STATUS_LOST],
        younger_than=Duration(seconds=_DAY_S),
    ),
)
"""The newest failures of the last day; never changed."""


@dataclass(slots=True)
class Kind:
    """Failures of one kind. `newest`: the one that ended last; `line`: the filter that fits them all."""

    newest: task_pb2.Task
    error_type: str
    line: str
    count: int
    first: datetime
    last: datetime

    @property
    def said(self) -> str:
        """What the newest of them said."""
        run = self.newest.runs[-1] if self.newest.runs else None
        if run is None:
            return ""
        return run.error.message if run.HasField("error") else run.reason


def kinds_of(found: Iterable[task_pb2.Task]) -> list[Kind]:
    """Tasks that failed, grouped."""
    kinds: dict[tuple[str, int, str], Kind] = {}
    for task in found:
        error_type = error_type_of(task)
        ended = _ended(task)
        key = (task.name, task.status, error_type)
        kind = kinds.get(key)
        if kind is None:
            kinds[key] = Kind(task, error_type, line_of_kind(task), 1, ended, ended)
            continue
        kind.count += 1
        kind.first = min(kind.first, ended)
        if ended > kind.last:
            kind.last, kind.newest = ended, task
    return sorted(kinds.values(), key=lambda kind: kind.last, reverse=True)


def error_type_of(task: task_pb2.Task) -> str:
    """The type of the error of its last run; empty where there is none."""
    run = task.runs[-1] if task.runs else None
    return run.error.type if run is not None and run.HasField("error") else ""


def line_of_kind(task: task_pb2.Task) -> str:
    """The filter line of all that ended like this task within the last day."""
    error_type = error_type_of(task)
    fitting = task_service_pb2.TaskFilter(
        names=[task.name], statuses=[task.status], error_types=[error_type] if error_type else []
    )
    fitting.younger_than.FromSeconds(_DAY_S)
    return filter_line(fitting).text()


def _ended(task: task_pb2.Task) -> datetime:
    run = task.runs[-1] if task.runs else None
    stamp = run.finished_at if run is not None and run.HasField("finished_at") else task.submitted_at
    return stamp.ToDatetime(tzinfo=UTC)
