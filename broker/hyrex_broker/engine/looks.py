"""Looks: what is searched for now and then, less often the longer it takes.

Under a transaction that is held open a search from the beginning of an index may have to pass millions of
dead entries. It must neither keep a connection busy nor hold up what can be found above a low-water mark.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

_PATIENCE_FACTOR: Final = 20
"""A look that takes long is taken less often: it may use a twentieth of a connection's time."""


@dataclass(slots=True)
class Look:
    """Something to look for now and then."""

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
            # Half a tick early: the ticks of the caller decide.
            self.due = ended + max(self.interval_s / 2, _PATIENCE_FACTOR * (ended - began))

    @property
    def is_patient(self) -> bool:
        """Return True if it takes so long that it is taken less often than it should be."""
        return self.due - time.monotonic() > self.interval_s
