"""Where nodes of a workflow stand, each in one word: what terminal and dashboard say alike."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from hyrex.v1 import task_pb2, workflow_service_pb2

__all__ = [
    "BAD_ENDS",
    "ENDED",
    "UNSEEN",
    "WORST_FIRST",
    "by_state",
    "ended_of",
    "node_word",
    "standing",
    "words_of",
]

WORST_FIRST: Final = (
    "failed", "timed_out", "lost", "running", "retrying", "queued", "scheduled", "blocked", "cancelled",
    "skipped", "unknown", "completed",
)  # fmt: skip
"""The word of several nodes is the first of these that one of them has."""
ENDED: Final = frozenset({"failed", "timed_out", "lost", "cancelled", "skipped", "completed"})
BAD_ENDS: Final = ENDED - {"completed"}
UNSEEN: Final = "unknown"
"""The word for a node whose queue the caller may not see, and for a status of a newer broker."""
_WORDS: Final = {
    number: name.removeprefix("TASK_STATUS_").lower()
    for name, number in task_pb2.TaskStatus.items()
    if number
}


def node_word(task: task_pb2.Task) -> str:
    """Where a node stands; one that is not shown has no id."""
    if not task.task_id:
        return UNSEEN
    word = _WORDS.get(task.status, UNSEEN)
    if word in ENDED and task.runs and task.runs[-1].cause == task_pb2.CANCEL_CAUSE_SKIPPED:
        return "skipped"
    return word


def words_of(counts: Iterable[workflow_service_pb2.NodeCount]) -> Counter[str]:
    """How many nodes stand where, by what GetWorkflow says."""
    words: Counter[str] = Counter()
    for each in counts:
        is_skip = each.cause == task_pb2.CANCEL_CAUSE_SKIPPED
        words["skipped" if is_skip else _WORDS.get(each.status, UNSEEN)] += each.count
    return words


def by_state(words: Counter[str]) -> list[tuple[str, int]]:
    """How many stand where, the worst first."""
    return [(word, words[word]) for word in WORST_FIRST if words[word]]


def ended_of(words: Counter[str]) -> int:
    """How many have ended."""
    return sum(words[word] for word in ENDED)


def standing(root: task_pb2.Task, words: Iterable[str]) -> str:
    """How a workflow stands: its root, which no worker runs, is blocked as long as a node lives."""
    own, found = node_word(root), set(words)
    if own in ENDED:
        return own
    return next((word for word in ("running", "retrying", "queued", "scheduled") if word in found), "blocked")
