"""Which tasks to list, count, cancel or retry: a filter as the broker works with it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from hyrex.runtime import patterns
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import TaskView

DEAD: Final = frozenset({TaskState.FAILED, TaskState.TIMED_OUT, TaskState.LOST})
_ENDS_WITH_ERRORS: Final = frozenset({TaskState.FAILED, TaskState.TIMED_OUT, TaskState.RETRYING})
"""Where a task stands whose newest ended run has an error, unless the filter says otherwise."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Those tasks to which all that is set applies. Times are those in ids, ages by the broker's clock."""

    queue: str | None = None
    name: str | None = None
    states: frozenset[TaskState] = frozenset()
    parent_id: TaskId | None = None
    root_id: TaskId | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    queues: tuple[str, ...] = ()
    """Patterns of which one must fit; as all below that are patterns."""
    names: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    error_types: tuple[str, ...] = ()
    error_places: tuple[str, ...] = ()
    older_than_s: float | None = None
    younger_than_s: float | None = None
    dead: bool = False
    """Only dead letters: what failed, timed out or was lost, and was not dismissed."""
    workflows: bool = False
    """Only roots of workflows."""
    within: tuple[str, ...] = ()
    """Patterns of the queues for which whoever asks has rights; empty: all."""

    def with_usual_states(self) -> "Selection":
        """The same with the states that it implies: what failed, timed out or is retrying has an error."""
        if self.dead:
            return replace(self, states=self.states & DEAD if self.states else DEAD)
        asks = self.error_types or self.error_places
        return replace(self, states=_ENDS_WITH_ERRORS) if asks and not self.states else self


@dataclass(frozen=True, slots=True)
class Check:
    """What a selection asks of a task that was read, beyond what the search for it has decided."""

    selection: Selection
    _known_error: Callable[[str], bool] = field(init=False)
    _known_place: Callable[[str], bool] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known_error", patterns.compile_escaped(self.selection.error_types))
        object.__setattr__(self, "_known_place", patterns.compile_escaped(self.selection.error_places))

    def fits(self, task: TaskView) -> bool:
        """Return True if the task fits."""
        wanted = self.selection
        return (
            (not wanted.states or task.state in wanted.states)
            and not (wanted.dead and task.dismissed)
            and (not wanted.workflows or task.workflow_nodes > 0)
            and (wanted.root_id is None or task.root_id == wanted.root_id)
            and (not (wanted.error_types or wanted.error_places) or self._has_error(task))
            and all(task.labels.get(key) == value for key, value in wanted.labels)
        )

    def _has_error(self, task: TaskView) -> bool:
        wanted = self.selection
        return any(
            (not wanted.error_types or (run.error_type is not None and self._known_error(run.error_type)))
            and (
                not wanted.error_places
                or (run.error_place is not None and self._known_place(run.error_place))
            )
            for run in task.runs
        )


def like(pattern: str) -> str:
    """A filter's pattern as Postgres' LIKE has it."""
    return "%".join(map(_literal, patterns.parts_of(pattern)))


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
