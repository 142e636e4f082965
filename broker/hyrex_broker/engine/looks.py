"""Looks: periodic searches, which are made less often the longer they take.

While some transaction is held open, a search from the beginning of an index may have to pass millions of dead
entries. It must neither keep a connection busy, nor delay what can be found above a low-water mark.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

_PATIENCE_FACTOR: Final = 20
"""A look may use at most a twentieth of a connection's time, so a long one is taken less often."""


@dataclass(slots=True)
class Look:
    """A search that is made now and then."""

    interval_s: float
    look: Callable[[], Awaitable[None]]
    due: float = 0.0

    async def again(self) -> None:
        """Look, if it is time."""
        began = time.monotonic()
        if began < self.due:
            return
        try:
            await self.look()
        finally:
            ended = time.monotonic()
            # Half an interval early, since the caller's own ticks decide the exact time.
            self.due = ended + max(self.interval_s / 2, _PATIENCE_FACTOR * (ended - began))

    @property
    def is_patient(self) -> bool:
        """Return True if it takes so long that it is taken less often than it should be."""
        return self.due - time.monotonic() > self.interval_s
