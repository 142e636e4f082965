"""What may be on its way to one cell: enough to keep it busy, and room for the others."""

import asyncio

from hyrex_broker.domain.errors import CellAway


class CellRoom:
    """What is on its way to one cell, counted in `unit`."""

    def __init__(self, cell: str, most: int, unit: str) -> None:
        self._cell = cell
        self._most = most
        self._unit = unit
        self._free = asyncio.Event()
        self._is_full = False
        self.taken = 0

    async def enter(self, size: int, patience_s: float) -> None:
        """Wait for room for so much; `leave` it. After one has waited in vain, the others do not wait, until
        something has left. Raises CellAway."""
        if not self._has_room(size) and not self._is_full:
            await self._wait(size, patience_s)
        if not self._has_room(size):
            self._is_full = True
            raise CellAway(self._cell, f"{self.taken} {self._unit} wait for its answer already")
        self.taken += size

    def leave(self, size: int) -> None:
        """So much is answered."""
        self.taken -= size
        self._is_full = False
        self._free.set()

    def _has_room(self, size: int) -> bool:
        return not self.taken or self.taken + size <= self._most

    async def _wait(self, size: int, patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                while not self._has_room(size):
                    self._free.clear()
                    await self._free.wait()
        except TimeoutError:
            pass  # whoever asks looks again
