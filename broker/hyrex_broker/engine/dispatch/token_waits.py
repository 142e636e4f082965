"""Lanes that wait for the next token of a rate. One timer for all of them, and no polling."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from hyrex_broker.domain.model import LaneId


class TokenWaits:
    """Tells which lanes may be read again, as their tokens come. By this process's clock: it is never set."""

    def __init__(self, come: Callable[[list[LaneId]], None]) -> None:
        """`come` is called with lanes whose tokens have come."""
        self._come = come
        self._due: dict[LaneId, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.generation = 0
        """How often limits have changed: what was computed before does not hold any more."""

    def add(self, waits: Mapping[LaneId, timedelta]) -> None:
        """These lanes wait so long from now."""
        if not waits:
            return
        now = asyncio.get_running_loop().time()
        self._due |= {lane: now + wait.total_seconds() for lane, wait in waits.items()}
        self._set()

    def end(self) -> None:
        """Have all lanes be read again: limits have changed."""
        self.generation += 1
        self._tell(list(self._due))

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(min(self._due.values()), self._now_due)

    def _now_due(self) -> None:
        now = asyncio.get_running_loop().time()
        self._tell(lane for lane, due in self._due.items() if due <= now)

    def _tell(self, lanes: Iterable[LaneId]) -> None:
        told = list(lanes)
        for lane in told:
            del self._due[lane]
        self._set()
        if told:
            self._come(told)
