"""A filter line as the wire's filter of tasks."""

from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.filterline import FilterLine
from hyrex.v1 import task_pb2, task_service_pb2

__all__ = ["task_filter"]

_PREFIX: Final = "TASK_STATUS_"


def task_filter(line: FilterLine) -> task_service_pb2.TaskFilter:
    """The filter that a parsed line asks for."""
    return task_service_pb2.TaskFilter(
        queues=line.queues,
        names=line.names,
        statuses=[task_pb2.TaskStatus.Value(_PREFIX + word.upper()) for word in line.statuses],
        labels=line.labels,
        error_types=line.error_types,
        parent_id=line.parent,
        root_id=line.root,
        older_than=None if line.older_s is None else Duration(seconds=line.older_s),
        younger_than=None if line.younger_s is None else Duration(seconds=line.younger_s),
    )
