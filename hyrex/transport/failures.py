"""Failures by their kind: the same task name, the same end, the same type of error from the same place.

They are grouped by who asks, from the newest that brokers list: no statement counts over tasks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.filterline import is_sayable
from hyrex.runtime import patterns
from hyrex.transport.filters import filter_line
from hyrex.v1 import task_pb2, task_service_pb2

__all__ = [
    "EVERY_FAILURE", "LINE_OF_FAILURES", "TYPES_OF_FAILURES", "Failures", "Kind", "error_type_of",
    "failures_in", "kinds_of", "line_of_kind", "why_no_line",
]  # fmt: skip

_DAY_S: Final = 86_400
EVERY_FAILURE: Final = task_service_pb2.ListTasksRequest(
    page_size=500,
    messages=task_service_pb2.LISTED_MESSAGES_ONE_OF_A_KIND,
    filter=task_service_pb2.TaskFilter(
        statuses=[task_pb2.TASK_STATUS_FAILED, task_pb2.TASK_STATUS_TIMED_OUT, task_pb2.TASK_STATUS_LOST],
        younger_than=Duration(seconds=_DAY_S),
        dead=True,
    ),
)
"""The newest failures of tasks that were sent within the last day; never changed."""
TYPES_OF_FAILURES: Final = task_service_pb2.ListTasksRequest()
"""The same for whoever needs no messages."""
TYPES_OF_FAILURES.CopyFrom(EVERY_FAILURE)
TYPES_OF_FAILURES.messages = task_service_pb2.LISTED_MESSAGES_NONE
LINE_OF_FAILURES: Final = filter_line(EVERY_FAILURE.filter).text()
"""The filter line that asks for them."""


@dataclass(slots=True)
class Kind:
    """Failures of one kind. `newest`: the one that ended last; `place`: where in the user's code they were
    raised, empty if that is not known; `line`: the filter that fits all of the kind and nothing else, empty
    where `why_no_line` says why there is none; `said`: what one of them said."""

    newest: task_pb2.Task
    error_type: str
    place: str
    line: str
    count: int
    first: datetime
    last: datetime
    said: str
    why_no_line: str


@dataclass(frozen=True, slots=True)
class Failures:
    """The kinds, the one that failed last before the others. `more`: there may be failures that were not
    among the `looked_at`, of tasks that were sent before `looked_back_to`."""

    kinds: list[Kind]
    looked_at: int
    more: bool
    looked_back_to: datetime | None


def failures_in(listed: task_service_pb2.ListTasksResponse) -> Failures:
    """What a list has, grouped. A page ends when its time is up, so an empty one may have more."""
    back = listed.looked_back_to.ToDatetime(tzinfo=UTC) if listed.HasField("looked_back_to") else None
    return Failures(kinds_of(listed.tasks), len(listed.tasks), bool(listed.next_page_token), back)


def kinds_of(found: Iterable[task_pb2.Task]) -> list[Kind]:
    """Tasks that failed, grouped."""
    kinds: dict[tuple[str, int, str, str], Kind] = {}
    for task in found:
        error_type, place = _kind_of_error(task), _kind_of_place(task)
        ended = _ended(task)
        key = (task.name, task.status, error_type, place)
        kind = kinds.get(key)
        if kind is None:
            line, why = line_of_kind(task, within_s=_DAY_S), why_no_line(task)
            kinds[key] = Kind(task, error_type, place, line, 1, ended, ended, _said(task), why)
            continue
        kind.count += 1
        kind.said = kind.said or _said(task)
        kind.first = min(kind.first, ended)
        if ended > kind.last:
            kind.last, kind.newest = ended, task
    placed = {key[:3] for key in kinds if key[3]}
    for of_kind, kind in kinds.items():
        if not kind.place and of_kind[:3] in placed:
            kind.line, kind.why_no_line = "", "where its error was raised is not known, as it is of others"
    return sorted(kinds.values(), key=lambda kind: kind.last, reverse=True)


def _said(task: task_pb2.Task) -> str:
    """What its last run said, empty where the list was asked for without it."""
    run = task.runs[-1] if task.runs else None
    if run is None:
        return ""
    return run.error.message if run.HasField("error") else run.reason


def error_type_of(task: task_pb2.Task) -> str:
    """The type of the error of its last run; empty where there is none."""
    run = task.runs[-1] if task.runs else None
    return run.error.type if run is not None and run.HasField("error") else ""


def line_of_kind(task: task_pb2.Task, *, within_s: int | None = None) -> str:
    """The filter line of all that ended like this task and were not dismissed, sent within so many seconds;
    empty where no line fits these and nothing else."""
    if why_no_line(task):
        return ""
    error_type = _kind_of_error(task)
    fitting = task_service_pb2.TaskFilter(
        names=[patterns.escaped(task.name)],
        statuses=[task.status],
        error_types=[patterns.escaped(error_type)] if error_type else [],
        error_places=[patterns.escaped(place)] if (place := _kind_of_place(task)) else [],
        dead=True,
    )
    if within_s is not None:
        fitting.younger_than.FromSeconds(within_s)
    return filter_line(fitting).text()


def why_no_line(task: task_pb2.Task) -> str:
    """Why no filter line fits just what ended like this task; empty where one does."""
    error_type = _kind_of_error(task)
    if task.status == task_pb2.TASK_STATUS_FAILED and not error_type:
        return "its error has no type, and a filter cannot ask for that"
    return "" if is_sayable(error_type) else "its error's type is too long for a filter"


def _kind_of_error(task: task_pb2.Task) -> str:
    """The type of error that is part of the kind. What timed out has one where its worker said so, and none
    where the broker did; it is one kind for all that, and so is what was lost."""
    return error_type_of(task) if task.status == task_pb2.TASK_STATUS_FAILED else ""


def _kind_of_place(task: task_pb2.Task) -> str:
    """The place that is part of the kind, of what has an error that is."""
    run = task.runs[-1] if task.runs else None
    return run.error.place if run is not None and _kind_of_error(task) else ""


def _ended(task: task_pb2.Task) -> datetime:
    run = task.runs[-1] if task.runs else None
    stamp = run.finished_at if run is not None and run.HasField("finished_at") else task.submitted_at
    return stamp.ToDatetime(tzinfo=UTC)
