"""Tasks that a broker has no room for now: sent again when it said, as long as the send timeout lasts.

Of many for one queue only some are sent again at a time: more when all of them found room, fewer when none
did. So a full queue costs its broker little, however much is sent to it.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hyrex.backend.outgoing import Outgoing, OutgoingBatch, Postponed, Progress, SendResult, Untimely
from hyrex.client.outbox import FRAME_ITEMS

__all__ = ["Store", "persist", "persist_async"]

_SHORTEST_PAUSE_S: Final = 0.05
_FOR_AN_ANSWER_S: Final = 2.0
"""Nothing is sent again that would have less time than this for its answer (or than half the timeout): it
might be stored or not, and its refusal was definite."""

Store = Callable[[Sequence[Outgoing], float], list[SendResult]]
"""Stores tasks within so many seconds."""


def persist(store: Store, tasks: Sequence[Outgoing], timeout_s: float) -> list[SendResult]:
    """Store tasks, blocking the calling thread; those that are postponed again and again."""
    if not tasks:
        return []
    began = time.monotonic()
    resending = _Resending(tasks, store(tasks, timeout_s), began, timeout_s)
    while (pause_s := resending.pause_s()) is not None:
        time.sleep(pause_s)
        resending.put(store(resending.again(), resending.left_s()))
    return resending.outcomes


async def persist_async(
    store: Callable[[Sequence[Outgoing], float], Awaitable[list[SendResult]]],
    tasks: Sequence[Outgoing],
    timeout_s: float,
) -> list[SendResult]:
    """As persist(), for a caller on an event loop."""
    if not tasks:
        return []
    began = time.monotonic()
    resending = _Resending(tasks, await store(tasks, timeout_s), began, timeout_s)
    while (pause_s := resending.pause_s()) is not None:
        await asyncio.sleep(pause_s)
        resending.put(await store(resending.again(), resending.left_s()))
    return resending.outcomes


@dataclass(slots=True)
class _Refused:
    """What one queue had no room for, in its order."""

    places: deque[int] = field(default_factory=deque)
    most: int = FRAME_ITEMS
    """No more are sent at a time."""
    due: float = 0.0
    """When to send some again, by the monotonic clock."""
    sent: int = 0
    """How many of them are being sent."""

    def take(self) -> list[int]:
        """The places to be sent now."""
        self.sent = min(self.most, len(self.places))
        return [self.places.popleft() for _ in range(self.sent)]

    def answered(self, refused: Sequence[int]) -> None:
        """Of those that were sent, these found no room."""
        if not refused:
            self.most *= 2
        elif len(refused) == self.sent:
            self.most = max(1, self.most // 2)
        self.places.extendleft(reversed(refused))
        self.sent = 0


class _Resending:
    """One call's tasks: what became of them, and which of them are to be sent again."""

    __slots__ = ("_ends", "_next", "_of", "_places", "_tasks", "_timeout_s", "outcomes")

    def __init__(
        self, tasks: Sequence[Outgoing], outcomes: list[SendResult], began: float, timeout_s: float
    ) -> None:
        """`began`: when the caller began, by the monotonic clock."""
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._ends = began + timeout_s
        self._next = 0.0
        self._of: dict[str, _Refused] = {}
        """By queue."""
        self._places: Sequence[int] = ()
        self.outcomes = outcomes
        if outcomes.count(Progress.STORED) < len(outcomes):  # seldom
            for queue, places in self._postpone(range(len(outcomes))).items():
                self._of[queue].places.extend(places)

    def pause_s(self) -> float | None:
        """Seconds until tasks are to be sent again; None if none are, or the time is up before."""
        if not self._of:  # nearly always
            return None
        waiting = [each.due for each in self._of.values() if each.places]
        if not waiting:
            return None
        now, self._next = time.monotonic(), min(waiting)
        pause_s = max(0.0, self._next - now)
        spare_s = min(_FOR_AN_ANSWER_S, self._timeout_s / 2)
        return pause_s if now + pause_s + spare_s < self._ends else None

    def left_s(self) -> float:
        """Seconds until the time is up."""
        return max(0.0, self._ends - time.monotonic())

    def again(self) -> Sequence[Outgoing]:
        """The tasks to be sent now."""
        due = [each for each in self._of.values() if each.places and each.due <= self._next]
        self._places = sorted(place for each in due for place in each.take())
        if isinstance(self._tasks, OutgoingBatch):
            return self._tasks.at(self._places)
        return [self._tasks[at] for at in self._places]

    def put(self, outcomes: Sequence[SendResult]) -> None:
        """Note what became of those; many tasks are waited for as long as some of them find room."""
        for at, outcome in zip(self._places, outcomes, strict=True):
            self.outcomes[at] = _as_known(self.outcomes[at], outcome)
        refused = self._postpone(self._places)
        for queue, each in self._of.items():
            if each.sent:
                each.answered(refused.get(queue, []))
        if sum(map(len, refused.values())) < len(outcomes):
            self._ends = time.monotonic() + self._timeout_s

    def _postpone(self, places: Sequence[int]) -> dict[str, list[int]]:
        """Those of these places that found no room, by queue; note when they are to be sent again."""
        found: dict[str, list[int]] = {}
        delays: dict[str, float] = {}
        for at in places:
            outcome = self.outcomes[at]
            if isinstance(outcome, Postponed):
                queue = getattr(outcome.error, "queue", "")
                found.setdefault(queue, []).append(at)
                delays[queue] = max(delays.get(queue, _SHORTEST_PAUSE_S), outcome.retry_after_s)
        now = time.monotonic()
        for queue, delay_s in delays.items():
            # Not all at once, of the callers that were refused together.
            self._of.setdefault(queue, _Refused()).due = now + delay_s * random.uniform(1.0, 1.25)
        return found


def _as_known(before: SendResult, outcome: SendResult) -> SendResult:
    """What is known of a task by its last answer: an attempt that had none is not forgotten."""
    if not isinstance(before, Postponed) or not before.may_be_stored:
        return outcome
    if isinstance(outcome, Postponed):
        return replace(outcome, may_be_stored=True)
    if isinstance(outcome, Untimely):
        return outcome.error
    return Progress.UNANSWERED if outcome is Progress.WAITING else outcome
