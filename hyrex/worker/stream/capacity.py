"""The capacity announced to the broker: what the pools want, sent again only where that is worth a frame."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_PERSISTS_S: Final = (
    0.5  # must be less than the time after which waiting runs are given back (RELEASE_AFTER_S)
)


@dataclass(frozen=True, slots=True)
class Places:
    """The size of a pool: how many leases it will hold, and how many of them it executes at once."""

    maximum: int
    slots: int


class Announcements:
    """The capacity that the broker knows, the one that is wanted, and when to announce again."""

    def __init__(self) -> None:
        self.told: dict[str, Places] = {}
        self.wanted: dict[str, Places] = {}
        self._pressing = False
        self._sides: dict[str, tuple[bool, float]] = {}  # by pool: (too much was announced, since when)

    def want(self, places: Mapping[str, Places], *, pressing: bool = False) -> None:
        """Note the capacity that the pools want now. Called often, also while it does not change.

        `pressing`: runs are waiting to be given back, and the broker must not send others in their place.
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
        """Return True if the difference to what was announced is large, or small but lasting.

        Prefetch follows the measured length of runs and changes with each of them, so a difference of a
        fifth is not worth a frame at once. But if it stayed unannounced, leases beyond what the children
        take would be given back and sent again, without end.
        """
        if any(_material(self.told.get(pool), places) for pool, places in self.wanted.items()):
            return True
        if self._pressing and any(too_much for too_much, _ in self._sides.values()):
            return True
        now = time.monotonic()
        return any(now - since >= _PERSISTS_S for _, since in self._sides.values())

    def tell(self) -> dict[str, Places]:
        """Return the wanted capacity, which counts as announced from now on."""
        self.told = dict(self.wanted)
        self._sides.clear()
        return self.told


def _material(told: Places | None, wanted: Places) -> bool:
    return told is None or _differ(told.maximum, wanted.maximum) or _differ(told.slots, wanted.slots)


def _differ(told: int, wanted: int) -> bool:
    if min(told, wanted) <= 10:
        return told != wanted
    return abs(told - wanted) > told // 5
