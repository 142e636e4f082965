"""The first of several attempts that succeeds, without waiting long for one that is silent."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class AllFailed(Exception):
    """No attempt succeeded; `errors` has one for each, in their order."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = tuple(errors)


async def first_of(
    attempts: Sequence[Callable[[], Awaitable[T]]], patience_s: float, dispose: Callable[[T], None]
) -> T:
    """The result of the first that succeeds. Each begins when the one before has failed, or has said nothing
    for `patience_s`; then both go on. What else succeeds is given to `dispose`. Raises AllFailed."""
    race = _Race(attempts)
    try:
        return await race.run(patience_s)
    finally:
        race.end(dispose)


class _Race(Generic[T]):
    def __init__(self, attempts: Sequence[Callable[[], Awaitable[T]]]) -> None:
        self._waiting = list(enumerate(attempts))
        self._running: dict[asyncio.Task[T], int] = {}
        self._errors: dict[int, Exception] = {}

    async def run(self, patience_s: float) -> T:
        while self._waiting or self._running:
            if self._waiting:
                number, attempt = self._waiting.pop(0)
                self._running[asyncio.ensure_future(attempt())] = number
            patience = patience_s if self._waiting else None
            ended, _ = await asyncio.wait(
                self._running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for task in sorted(ended, key=lambda each: self._running[each]):
                if (error := _error(task)) is None:
                    del self._running[task]
                    return task.result()
                self._errors[self._running.pop(task)] = error
        raise AllFailed([self._errors[number] for number in sorted(self._errors)])

    def end(self, dispose: Callable[[T], None]) -> None:
        """Cancel what still runs. Nobody waits for it: a caller that is cancelled meanwhile would lose what
        it has just got."""

        def ended(task: "asyncio.Task[T]") -> None:
            if _error(task) is None:
                dispose(task.result())

        for task in self._running:
            task.add_done_callback(ended)
            task.cancel()


def _error(task: "asyncio.Task[T]") -> Exception | None:
    """Why a task that has ended failed."""
    if task.cancelled():
        return ConnectionAbortedError("cancelled")
    error = task.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return error
