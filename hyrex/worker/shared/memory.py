"""Memory shared by the stream process and its children: one trust cell, and one ledger for each child.

Unlike a message in a socket, its content survives the death of the process that wrote it. All cells are
aligned 64-bit integers, each written by one side only.
"""

import mmap
import os
import tempfile
import time
from typing import Final, NamedTuple

_CELL_BYTES: Final = 8
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_clock_ns: Final = time.clock_gettime_ns


def boottime_ns() -> int:
    """Time on a clock that goes on while the machine sleeps and cannot be set."""
    return _clock_ns(_CLOCK)


def create_fd(size_bytes: int) -> int:
    """A descriptor of an anonymous file for shared cells; a new program does not inherit it by itself."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("hyrex", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size_bytes)
    return fd


class Cells:
    """A view of shared 64-bit cells. Owns its own mapping only; the file stays with whoever else maps it."""

    def __init__(self, fd: int, count: int) -> None:
        """Map `count` cells of the file."""
        self._map = mmap.mmap(fd, count * _CELL_BYTES)
        self.view = memoryview(self._map).cast("q")

    def close(self) -> None:
        """Unmap."""
        self.view.release()
        self._map.close()


class TrustCell:
    """Until when the leases may be trusted, on the boot clock; 0 means not at all.

    The stream process writes it; every child reads it before each run and in its watchdog.
    """

    SIZE_BYTES = _CELL_BYTES

    def __init__(self, fd: int) -> None:
        """Map the cell."""
        self._view = Cells(fd, 1).view

    @property
    def until_ns(self) -> int:
        """The end of trust."""
        return self._view[0]

    @until_ns.setter
    def until_ns(self, value: int) -> None:
        self._view[0] = value

    def trusted(self) -> bool:
        """Return True if the leases may be trusted now."""
        return _clock_ns(_CLOCK) < self._view[0]


class Running(NamedTuple):
    """A run that a child is executing: its token and when it began (monotonic clock)."""

    token: int
    started_ns: int


class Ledger:
    """What one child has started and what it is running, by slot.

    Runs are started in the order of their ordinals, so a run has started if and only if its
    ordinal is at most the highest in the ledger: true at any instant, also after a kill.
    A slot is four cells: ordinal (kept when the run ends), token, start, busy (written last).
    """

    _WIDTH = 4

    def __init__(self, fd: int, slots: int) -> None:
        """Map a ledger for `slots` runs at once."""
        self._cells = Cells(fd, slots * self._WIDTH)
        self._view = self._cells.view
        self._slots = slots

    @classmethod
    def size_bytes(cls, slots: int) -> int:
        """Bytes that a ledger needs."""
        return slots * cls._WIDTH * _CELL_BYTES

    def use(self, slots: int) -> None:
        """Read that many slots only."""
        self._slots = slots
        self._view = self._cells.view[: slots * self._WIDTH]

    def use_at_least(self, slots: int) -> None:
        """Read at least that many slots, and no fewer than before: there may still be runs in them."""
        if slots > self._slots:
            self.use(slots)

    def begin(self, slot: int, ordinal: int, token: int) -> None:
        """Note that a run starts, before anything of it is executed."""
        view, at = self._view, slot * self._WIDTH
        view[at] = ordinal
        view[at + 1] = token
        view[at + 2] = time.monotonic_ns()
        view[at + 3] = 1

    def restart_clock(self, slot: int) -> int:
        """Note that user code begins now; return when that is."""
        now_ns = self._view[slot * self._WIDTH + 2] = time.monotonic_ns()
        return now_ns

    def end(self, slot: int) -> None:
        """Note that the slot is free again."""
        self._view[slot * self._WIDTH + 3] = 0

    def started_through(self) -> int:
        """The highest ordinal that has started; 0 if none."""
        return max(self._view[:: self._WIDTH].tolist(), default=0)

    def running(self) -> list[Running]:
        """What runs now; exact if the child is dead, else true of some moment just past."""
        view, width = self._view.tolist(), self._WIDTH
        return [
            Running(view[at + 1], view[at + 2]) for at in range(0, self._slots * width, width) if view[at + 3]
        ]

    def close(self) -> None:
        """Unmap."""
        self._view.release()
        self._cells.close()
