"""Watches a call without an answer: a broker that is stopped, or has lost its database, does not answer.

After a second of silence the broker is asked for its health, repeatedly. If it does not answer, or does not
serve, it is left for another broker. If it serves but is slow, it is left too, each time after a longer wait:
when all brokers are busy, changing between them would only make more work.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final

from hyrex.transport.health import Health

__all__ = ["FOR_EVER_S", "SilenceWatch"]

SILENCE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 5.0
FOR_EVER_S: Final = float("inf")


class SilenceWatch:
    """A context for one call: `ask` for the broker's health, `leave` it if that is bad or after
    `patience_s`."""

    __slots__ = ("_ask", "_began", "_leave", "_loop", "_patience_s", "_task", "_timer")

    def __init__(
        self,
        ask: Callable[[], Coroutine[Any, Any, Health]],
        leave: Callable[[], None],
        patience_s: float,
    ) -> None:
        self._ask = ask
        self._leave = leave
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._began = self._loop.time()
        self._timer = self._loop.call_later(SILENCE_S, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        self._task = self._loop.create_task(self._check())

    async def _check(self) -> None:
        health = await self._ask()
        waited_s = self._loop.time() - self._began
        if not health.answers or not health.serves or waited_s > self._patience_s:
            self._leave()
        else:
            # The pause grows with the time waited: most waits are short, and long ones need no quick check.
            pause_s = min(max(SILENCE_S, waited_s / 2), LONGEST_PAUSE_S)
            self._timer = self._loop.call_later(pause_s, self._look)
