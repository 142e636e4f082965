"""The first of several attempts that succeeds, without waiting long for one that is silent."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class AllFailed(Exception):
    """No attempt succeeded; `errors` has one for each, in their order."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = tuple(errors)


async def first_of(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    patience_s: float,
    dispose: Callable[[T], None],
    again_s: float | None = None,
) -> T:
    """The result of the first that succeeds. Each begins when the one before has failed, or has said nothing
    for `patience_s`; then both go on. What else succeeds is given to `dispose`. Raises AllFailed.

    While an attempt that has not failed yet is silent, those that failed are repeated every `again_s`: what
    they ask may have become usable meanwhile.
    """
    race = _Race(attempts, again_s)
    try:
        return await race.run(patience_s)
    finally:
        race.end(dispose)


class _Race(Generic[T]):
    def __init__(self, attempts: Sequence[Callable[[], Awaitable[T]]], again_s: float | None) -> None:
        self._attempts = attempts
        self._again_s = again_s
        self._begun = 0
        self._resting: dict[int, float] = {}
        """When those that failed are repeated."""
        self._running: dict[asyncio.Task[T], int] = {}
        self._errors: dict[int, Exception] = {}

    async def run(self, patience_s: float) -> T:
        while self._begun < len(self._attempts) or self._running:
            self._begin_next()
            ended, _ = await asyncio.wait(
                self._running, timeout=self._wait_s(patience_s), return_when=asyncio.FIRST_COMPLETED
            )
            for task in sorted(ended, key=lambda each: self._running[each]):
                if (error := _error(task)) is None:
                    del self._running[task]
                    return task.result()
                self._failed(self._running.pop(task), error)
        raise AllFailed([self._errors[number] for number in sorted(self._errors)])

    def _begin_next(self) -> None:
        """Begin the next attempt; if all have begun, repeat those that are due."""
        if self._begun < len(self._attempts):
            self._begin(self._begun)
            self._begun += 1
            return
        now = time.monotonic()
        for number in [number for number, due in self._resting.items() if due <= now]:
            del self._resting[number]
            self._begin(number)

    def _begin(self, number: int) -> None:
        self._running[asyncio.ensure_future(self._attempts[number]())] = number

    def _failed(self, number: int, error: Exception) -> None:
        self._errors[number] = error
        if self._again_s is not None:
            self._resting[number] = time.monotonic() + self._again_s

    def _wait_s(self, patience_s: float) -> float | None:
        """How long to wait for those that run before anything else is done."""
        if self._begun < len(self._attempts):
            return patience_s
        if all(number in self._errors for number in self._running.values()):
            self._resting.clear()  # nobody is silent any more: what runs are the last repetitions
        return max(0.0, min(self._resting.values()) - time.monotonic()) if self._resting else None

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
