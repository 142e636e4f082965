"""Which capacity the broker is told: the pools' own wish, told anew only where that is worth a frame."""

from __future__ import annotations

import time
from collections.abc import Mapping

_PERSISTS_S = 0.5  # shorter than runs wait before they are given back


class Announcements:
    """Which capacity the broker was told, and whether it should be told anew."""

    def __init__(self) -> None:
        """Nothing is announced."""
        self.told: dict[str, int] = {}
        self.wanted: dict[str, int] = {}
        self._sides: dict[str, tuple[bool, float]] = {}  # whether too much was told, and since when

    def want(self, maximum: Mapping[str, int]) -> None:
        """The capacity is this now; called again and again while it stays so."""
        self.wanted = dict(maximum)
        now = time.monotonic()
        for pool, wanted in maximum.items():
            told = self.told.get(pool, -1)
            if wanted == told:
                self._sides.pop(pool, None)
            elif self._sides.get(pool, (None, 0.0))[0] != (wanted < told):
                self._sides[pool] = wanted < told, now

    def due(self) -> bool:
        """Whether the difference is material, or small but there to stay.

        What follows the pace wavers with every run: a fifth is not worth a frame. But leases beyond
        what children take would be given back and come again, without end.
        """
        if any(_material(self.told.get(pool, -1), maximum) for pool, maximum in self.wanted.items()):
            return True
        now = time.monotonic()
        return any(now - since >= _PERSISTS_S for _, since in self._sides.values())

    def tell(self) -> dict[str, int]:
        """The capacity, as told from now on."""
        self.told = dict(self.wanted)
        self._sides.clear()
        return self.told


def _material(told: int, wanted: int) -> bool:
    if told < 0 or min(told, wanted) <= 10:
        return told != wanted
    return abs(told - wanted) > told // 5
