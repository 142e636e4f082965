"""Reads a filter of tasks from the wire, and writes it back."""

from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Final

from hyrex.runtime import patterns
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.selection import DEAD, Selection
from hyrex_broker.domain.states import TaskState
from hyrex_broker.service import fields
from hyrex_broker.service.terms import refuse_unknown
from hyrex_broker.service.times import duration

MOST_VALUES: Final = 20
_LABEL_BYTES: Final = 4096


def selection(request: task_service_pb2.ListTasksRequest) -> Selection:
    """What a list is asked for: the fields of the request and its filter together. Raises InvalidField."""
    wanted = of_filter(request.filter)
    states = frozenset(_state(status) for status in request.statuses)
    return replace(
        wanted,
        queue=fields.name(request.queue, "queue") if request.queue else None,
        name=fields.name(request.name, "name") if request.name else None,
        states=_both(states, wanted.states),
        parent_id=_same(request.parent_id, wanted.parent_id, "parent_id"),
        root_id=_same(request.root_id, wanted.root_id, "root_id"),
        created_after=fields.moment(request.created_after, "created_after")
        if request.HasField("created_after")
        else None,
        created_before=fields.moment(request.created_before, "created_before")
        if request.HasField("created_before")
        else None,
    )


def of_filter(wire: task_service_pb2.TaskFilter) -> Selection:
    """A filter as the broker works with it. Raises InvalidField, also for what a later version may mean:
    more tasks would fit without it."""
    refuse_unknown(wire, "filter")
    states = frozenset(_state(status) for status in wire.statuses)
    if wire.dead and states and not states & DEAD:
        named = ", ".join(state.name for state in sorted(states))
        raise InvalidField("filter.statuses", named, "must have FAILED, TIMED_OUT or LOST beside dead")
    older, younger = wire.HasField("older_than"), wire.HasField("younger_than")
    return Selection(
        states=states,
        parent_id=fields.task_id(wire.parent_id, "filter.parent_id") if wire.parent_id else None,
        root_id=fields.task_id(wire.root_id, "filter.root_id") if wire.root_id else None,
        queues=_patterns(wire.queues, "filter.queues"),
        names=_patterns(wire.names, "filter.names"),
        labels=_labels(wire.labels),
        dead=wire.dead,
        workflows=wire.workflows,
        error_types=_patterns(wire.error_types, "filter.error_types"),
        error_places=_patterns(wire.error_places, "filter.error_places"),
        older_than_s=fields.milliseconds(wire.older_than, "filter.older_than", least=0) / 1000
        if older
        else None,
        younger_than_s=fields.milliseconds(wire.younger_than, "filter.younger_than", least=1) / 1000
        if younger
        else None,
    )


def to_filter(wanted: Selection) -> task_service_pb2.TaskFilter:
    """The filter of a selection that was one."""
    return task_service_pb2.TaskFilter(
        queues=wanted.queues,
        names=wanted.names,
        statuses=[task_pb2.TaskStatus.ValueType(state) for state in sorted(wanted.states)],
        labels=dict(wanted.labels),
        dead=wanted.dead,
        workflows=wanted.workflows,
        error_types=wanted.error_types,
        error_places=wanted.error_places,
        parent_id=wanted.parent_id or "",
        root_id=wanted.root_id or "",
        older_than=None if wanted.older_than_s is None else duration(wanted.older_than_s * 1000),
        younger_than=None if wanted.younger_than_s is None else duration(wanted.younger_than_s * 1000),
    )


def in_words(wanted: Selection) -> list[object]:
    """The filters in a form that is the same for equal selections."""
    values = [getattr(wanted, field.name) for field in fields_of(wanted)]
    return [sorted(value) if isinstance(value, frozenset) else value for value in values]


def _patterns(values: Sequence[str], field: str) -> tuple[str, ...]:
    if len(values) > MOST_VALUES:
        raise InvalidField(field, f"{len(values)} patterns", f"must have at most {MOST_VALUES}")
    for place, value in enumerate(values):
        _check_pattern(value, f"{field}[{place}]")
    return tuple(sorted(set(values)))


def _check_pattern(value: str, field: str) -> None:
    try:
        parts = patterns.parts_of(value)
    except ValueError:
        remedy = "must have a backslash only before a star or another backslash"
        raise InvalidField(field, value, remedy) from None
    fields.name("*".join(parts), field)
    if len(parts) > patterns.MOST_STARS + 1:
        raise InvalidField(field, value, f"must have at most {patterns.MOST_STARS} stars")


def _labels(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if len(values) > MOST_VALUES:
        raise InvalidField("filter.labels", f"{len(values)} labels", f"must have at most {MOST_VALUES}")
    return tuple(sorted(fields.texts(dict(values), "filter.labels", _LABEL_BYTES).items()))


def _both(first: frozenset[TaskState], second: frozenset[TaskState]) -> frozenset[TaskState]:
    """States that both allow, where none allows all. Raises InvalidField where that leaves none."""
    if first and second and not first & second:
        named = ", ".join(state.name for state in sorted(first))
        raise InvalidField("filter.statuses", named, "must have a status in common with `statuses`")
    return first & second if first and second else first | second


def _same(text: str, other: TaskId | None, field: str) -> TaskId | None:
    """An id that may be said twice. Raises InvalidField where two ids are said."""
    mine = fields.task_id(text, field) if text else None
    if mine is not None and other is not None and mine != other:
        raise InvalidField(f"filter.{field}", other, f"must be the same as `{field}`, or empty")
    return mine or other


def _state(status: int) -> TaskState:
    try:
        return TaskState(status)
    except ValueError:
        raise InvalidField("statuses", status, "must be a TaskStatus other than UNSPECIFIED") from None
