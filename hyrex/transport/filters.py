"""A filter line as the wire's filter of tasks."""

from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.filterline import FilterLine
from hyrex.v1 import task_pb2, task_service_pb2

__all__ = ["filter_line", "task_filter"]

_PREFIX: Final = "TASK_STATUS_"


def task_filter(line: FilterLine) -> task_service_pb2.TaskFilter:
    """The filter that a parsed line asks for."""
    return task_service_pb2.TaskFilter(
        queues=line.queues,
        names=line.names,
        statuses=[task_pb2.TaskStatus.Value(_PREFIX + word.upper()) for word in line.statuses],
        dead=line.dead,
        workflows=line.workflows,
        labels=line.labels,
        error_types=line.error_types,
        error_places=line.error_places,
        parent_id=line.parent,
        root_id=line.root,
        older_than=None if line.older_s is None else Duration(seconds=line.older_s),
        younger_than=None if line.younger_s is None else Duration(seconds=line.younger_s),
    )


def filter_line(wire: task_service_pb2.TaskFilter) -> FilterLine:
    """The line that asks for what a filter asks for, ages in whole seconds."""
    return FilterLine(
        queues=tuple(wire.queues),
        names=tuple(wire.names),
        statuses=tuple(_word(status) for status in wire.statuses),
        dead=wire.dead,
        workflows=wire.workflows,
        labels=dict(wire.labels),
        error_types=tuple(wire.error_types),
        error_places=tuple(wire.error_places),
        parent=wire.parent_id,
        root=wire.root_id,
        older_s=wire.older_than.seconds if wire.HasField("older_than") else None,
        younger_s=wire.younger_than.seconds if wire.HasField("younger_than") else None,
    )


def _word(status: task_pb2.TaskStatus.ValueType) -> str:
    """A status of a later version is a number here."""
    try:
        return task_pb2.TaskStatus.Name(status).removeprefix(_PREFIX).lower()
    except ValueError:
        return str(status)
