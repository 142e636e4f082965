"""Tasks that a broker has no room for now: sent again when it said, as long as the send timeout lasts."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from hyrex.backend.outgoing import Outgoing, OutgoingBatch, Postponed, Progress, SendResult

__all__ = ["persist", "persist_async"]

Store = Callable[[Sequence[Outgoing]], list[SendResult]]


def persist(store: Store, tasks: Sequence[Outgoing], timeout_s: float) -> list[SendResult]:
    """Store tasks, blocking the calling thread; those that are postponed again and again."""
    if not tasks:
        return []
    began = time.monotonic()
    resending = _Resending(tasks, store(tasks), began, timeout_s)
    while (pause_s := resending.pause_s()) is not None:
        time.sleep(pause_s)
        resending.put(store(resending.again()))
    return resending.outcomes


async def persist_async(
    store: Callable[[Sequence[Outgoing]], Awaitable[list[SendResult]]],
    tasks: Sequence[Outgoing],
    timeout_s: float,
) -> list[SendResult]:
    """As persist(), for a caller on an event loop."""
    if not tasks:
        return []
    began = time.monotonic()
    resending = _Resending(tasks, await store(tasks), began, timeout_s)
    while (pause_s := resending.pause_s()) is not None:
        await asyncio.sleep(pause_s)
        resending.put(await store(resending.again()))
    return resending.outcomes


class _Resending:
    """One call's tasks: what became of them, and which of them are to be sent again."""

    __slots__ = ("_ends", "_places", "_tasks", "_timeout_s", "outcomes")

    def __init__(
        self, tasks: Sequence[Outgoing], outcomes: list[SendResult], began: float, timeout_s: float
    ) -> None:
        """`began`: when the caller began, by the monotonic clock."""
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._ends = began + timeout_s
        self._places: Sequence[int] = range(len(outcomes))
        self.outcomes = outcomes

    def pause_s(self) -> float | None:
        """Seconds until tasks are to be sent again; None if none are, or the time is up before."""
        if self.outcomes.count(Progress.STORED) == len(self.outcomes):  # nearly always
            return None
        postponed = {at: each for at in self._places if isinstance(each := self.outcomes[at], Postponed)}
        if not postponed:
            return None
        self._places = list(postponed)
        # Not all at once, of the callers that were refused together.
        pause_s = max(each.retry_after_s for each in postponed.values()) * random.uniform(1.0, 1.25)
        return pause_s if time.monotonic() + pause_s < self._ends else None

    def again(self) -> Sequence[Outgoing]:
        """The tasks to be sent now."""
        if isinstance(self._tasks, OutgoingBatch):
            return self._tasks.at(self._places)
        return [self._tasks[at] for at in self._places]

    def put(self, outcomes: Sequence[SendResult]) -> None:
        """Note what became of those; many tasks are waited for as long as some of them find room."""
        for at, outcome in zip(self._places, outcomes, strict=True):
            self.outcomes[at] = outcome
        if not all(isinstance(outcome, Postponed) for outcome in outcomes):
            self._ends = time.monotonic() + self._timeout_s
