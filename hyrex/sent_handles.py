"""The handles of tasks that were sent together: each is made when it is asked for."""

from collections.abc import Sequence
from typing import Any, TypeVar, overload

from hyrex.backend.known import acknowledge
from hyrex.backend.outgoing import OutgoingBatch
from hyrex.handle import TaskHandle, handle_of

__all__ = ["SentHandles"]

R = TypeVar("R")


class SentHandles(Sequence[TaskHandle[R]]):
    """A handle for each task, in the order of their calls. Asking twice for one gives the same handle."""

    def __init__(self, sent: OutgoingBatch) -> None:
        self.sent = sent
        self.are_stored = False
        """Return True if all tasks were simply stored; else their handles were told what became of each."""
        self._made: dict[int, TaskHandle[R]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __len__(self) -> int:
        return len(self.sent)

    @overload
    def __getitem__(self, at: int) -> TaskHandle[R]: ...
    @overload
    def __getitem__(self, at: slice) -> list[TaskHandle[R]]: ...
    def __getitem__(self, at: int | slice) -> "TaskHandle[R] | list[TaskHandle[R]]":
        places = range(len(self.sent))[at]
        return self._handle(places) if isinstance(places, int) else [self._handle(each) for each in places]

    def _handle(self, place: int) -> TaskHandle[R]:
        found = self._made.get(place)
        if found is None:
            handle = handle_of(self.sent[place])
            if self.are_stored:
                acknowledge(handle)
            found = self._made.setdefault(place, handle)
        return found

    def __repr__(self) -> str:
        return f"<handles of {len(self)} tasks>"
