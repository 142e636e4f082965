"""Which capacity the broker is told: the pools' own wish, told anew only where that is worth a frame."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

_PERSISTS_S = 0.5  # shorter than runs wait before they are given back


@dataclass(frozen=True, slots=True)
class Places:
    """What a pool has: leases that it will hold, and how many of them it executes at once."""

    maximum: int
    slots: int


class Announcements:
    """Which capacity the broker was told, and whether it should be told anew."""

    def __init__(self) -> None:
        """Nothing is announced."""
        self.told: dict[str, Places] = {}
        self.wanted: dict[str, Places] = {}
        self._pressing = False
        self._sides: dict[str, tuple[bool, float]] = {}  # whether too much was told, and since when

    def want(self, places: Mapping[str, Places], *, pressing: bool = False) -> None:
        """The capacity is this now; called again and again while it stays so.

        `pressing`: runs wait to be given back, and more must not come in their place.
        """
        self.wanted, self._pressing = dict(places), pressing
        now = time.monotonic()
        for pool, wanted in places.items():
            told = self.told.get(pool)
            if wanted == told:
                self._sides.pop(pool, None)
                continue
            too_much = told is not None and wanted.maximum < told.maximum
            if self._sides.get(pool, (None, 0.0))[0] != too_much:
                self._sides[pool] = too_much, now

    def due(self) -> bool:
        """Whether the difference is material, or small but there to stay.

        What follows the pace wavers with every run: a fifth is not worth a frame. But leases beyond
        what children take would be given back and come again, without end.
        """
        if any(_material(self.told.get(pool), places) for pool, places in self.wanted.items()):
            return True
        if self._pressing and any(too_much for too_much, _ in self._sides.values()):
            return True
        now = time.monotonic()
        return any(now - since >= _PERSISTS_S for _, since in self._sides.values())

    def tell(self) -> dict[str, Places]:
        """The capacity, as told from now on."""
        self.told = dict(self.wanted)
        self._sides.clear()
        return self.told


def _material(told: Places | None, wanted: Places) -> bool:
    return told is None or _differ(told.maximum, wanted.maximum) or _differ(told.slots, wanted.slots)


def _differ(told: int, wanted: int) -> bool:
    if min(told, wanted) <= 10:
        return told != wanted
    return abs(told - wanted) > told // 5
