"""A bulk operation: cancels, retries or dismisses all tasks that a filter fits and that it found there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.selection import DEAD, Selection
from hyrex_broker.domain.states import TaskState


class BulkAction(StrEnum):
    """What it does to each task."""

    CANCEL = "cancel"
    RETRY = "retry"
    DISMISS = "dismiss"


class BulkState(StrEnum):
    """Where it stands."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


_MAY_BE_CANCELLED: Final = frozenset(state for state in TaskState if not state.final)
_MAY_BE_RETRIED: Final = frozenset(state for state in TaskState if state.final)


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """One of them; tasks with ids below `cursor` are still to be looked at."""

    operation_id: str
    action: BulkAction
    selection: Selection
    reason: str
    who: str
    state: BulkState
    cursor: TaskId
    matched: int
    done: int
    started_at: datetime
    ended_at: datetime | None


def acted_on(action: BulkAction, selection: Selection) -> Selection | None:
    """The tasks of a selection on which the action may have an effect; None where there can be none."""
    may, usual = {
        BulkAction.CANCEL: (_MAY_BE_CANCELLED, _MAY_BE_CANCELLED),
        BulkAction.RETRY: (_MAY_BE_RETRIED, DEAD),
        BulkAction.DISMISS: (DEAD, DEAD),
    }[action]
    wanted = selection.with_usual_states().states
    states = wanted & may if wanted else usual
    # A retry that names no status leaves out dismissed tasks: somebody dealt with them, maybe by a replay,
    # and their work must not be done again beside that.
    retries_all = action is BulkAction.RETRY and not selection.states
    dead = selection.dead or action is BulkAction.DISMISS or retries_all
    return replace(selection, states=states, dead=dead) if states else None


def to_words(selection: Selection) -> dict[str, Any]:
    """A selection that was a filter, as JSON. Its ages are kept for people; `as_searched` leaves them out."""
    return {
        "states": sorted(int(state) for state in selection.states),
        "parent_id": selection.parent_id,
        "root_id": selection.root_id,
        "queues": list(selection.queues),
        "names": list(selection.names),
        "labels": dict(selection.labels),
        "error_types": list(selection.error_types),
        "older_than_s": selection.older_than_s,
        "younger_than_s": selection.younger_than_s,
        "dead": selection.dead,
        "within": list(selection.within),
        "created_after": None if selection.created_after is None else selection.created_after.isoformat(),
        **({"error_places": list(selection.error_places)} if selection.error_places else {}),
        **({"workflows": True} if selection.workflows else {}),
    }


WORDS: Final = (*to_words(Selection()), "error_places", "workflows")
"""All that `to_words` may write. What was added later stands there only where it says something: a broker
leaves an operation with other words to those that know them."""


def from_words(words: Mapping[str, Any]) -> Selection:
    """What `to_words` has written."""
    after = words["created_after"]
    return Selection(
        states=frozenset(map(TaskState, words["states"])),
        parent_id=words["parent_id"],
        root_id=words["root_id"],
        queues=tuple(words["queues"]),
        names=tuple(words["names"]),
        labels=tuple(sorted(words["labels"].items())),
        error_types=tuple(words["error_types"]),
        error_places=tuple(words.get("error_places", ())),
        older_than_s=words["older_than_s"],
        younger_than_s=words["younger_than_s"],
        workflows=words.get("workflows", False),
        dead=words["dead"],
        within=tuple(words["within"]),
        created_after=None if after is None else datetime.fromisoformat(after),
    )


def as_searched(selection: Selection) -> Selection:
    """The selection of a stored operation as tasks are searched by it: its ages were fixed at its start, in
    the cursor and in `created_after`."""
    return replace(selection, older_than_s=None, younger_than_s=None)
