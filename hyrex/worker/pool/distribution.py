"""Which child gets which waiting run: free slots are filled first, then each child gets equally many more.

Decisions only, without side effects; the pool acts on them.
"""

from collections.abc import Callable, Sequence
from typing import Final

from hyrex.worker.pool.child_process import ChildProcess

_WORTH_MOVING_S: Final = 0.002
_WORTH_WAKING_S: Final = 0.001


def shares(
    children: Sequence[ChildProcess], waiting: int, limit: Callable[[ChildProcess], int], run_s: float | None
) -> list[tuple[ChildProcess, int]]:
    """How many of the waiting runs each child gets.

    Free slots are filled before a run is given to a child to wait there. But if one idle child would finish
    all of them within a millisecond (`run_s` is how long runs take now), it gets them all: to wake a second
    child, and to receive its report, would cost more.
    """
    if not children or not waiting:
        return []
    ordered = sorted(children, key=lambda child: len(child.given))
    idlest = ordered[0]
    short = run_s is not None and waiting * run_s < _WORTH_WAKING_S * idlest.slots
    if short and not idlest.given and waiting <= limit(idlest):
        return [(idlest, waiting)]
    level = -(-(sum(len(child.given) for child in ordered) + waiting) // len(ordered))
    portions = dict.fromkeys(ordered, 0)
    for most in (
        lambda child: min(limit(child), child.slots),
        lambda child: min(limit(child), level),
        limit,
    ):
        for child in ordered:
            portion = min(waiting, most(child) - len(child.given) - portions[child])
            if portion > 0:
                portions[child] += portion
                waiting -= portion
    return [(child, portion) for child, portion in portions.items() if portion]


def overfull(children: Sequence[ChildProcess], run_s: float | None, patient: bool) -> ChildProcess | None:
    """The child whose waiting runs should move, since another has a free slot; None if that gains nothing.

    If `patient`, runs that will start within two milliseconds anyway are not moved.
    """
    if not any(len(child.given) < child.slots for child in children):
        return None
    fullest = max(children, key=lambda child: len(child.given) - child.slots)
    behind = len(fullest.given) - fullest.slots
    if behind <= 0 or fullest.taking_back:
        return None
    if patient and run_s is not None and behind * run_s / fullest.slots < _WORTH_MOVING_S:
        return None
    return fullest
