"""Ids of tasks: UUIDv7, made where the task is sent.

Randomness is the operating system's, afresh after a fork; ids of one process grow in the order
they are made. The clock is this machine's plus an offset that a broker may have taught.
"""

import itertools
import os
import time
from typing import Final

__all__ = ["IdSource", "new_task_id", "task_ids"]

VERSION: Final = 7 << 12
VARIANT: Final = 0b10 << 62
LOW_BITS: Final = 62
LOW_MASK: Final = (1 << LOW_BITS) - 1
COUNTER_BITS: Final = 74
START_BYTES: Final = 10
STEP_BYTES: Final = 4


class IdSource:
    """Makes ids in canonical text form.

    It holds no lock: a signal handler or a finalizer may interrupt any of it, and make an id of its own.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything, as in a fork's child: no id may come from what the parent knew."""
        self._offset_ms = 0
        self._moment = Moment(0)

    def new(self) -> str:
        """A new id, greater than all before it unless the clock was corrected backwards."""
        now_ms = time.time_ns() // 1_000_000 + self._offset_ms
        if now_ms > self._moment.milliseconds:
            self._begin(now_ms)
        moment = self._moment
        number = next(moment.numbers)
        while number >> COUNTER_BITS:
            self._begin(moment.milliseconds + 1)
            moment = self._moment
            number = next(moment.numbers)
        low = f"{number & LOW_MASK | VARIANT:016x}"
        return f"{moment.front}-{number >> LOW_BITS | VERSION:04x}-{low[:4]}-{low[4:]}"

    def correct_clock(self, server_time_ms: int) -> None:
        """Make new ids by the broker's clock; ids that exist keep their names."""
        self._offset_ms = server_time_ms - time.time_ns() // 1_000_000
        self._moment = Moment(0)

    def _begin(self, milliseconds: int) -> None:
        made = Moment(milliseconds)
        # Another thread may have been faster: whoever looked at its moment goes on with that one.
        if milliseconds > self._moment.milliseconds:
            self._moment = made


class Moment:
    """Ids of one millisecond: they begin alike, and `numbers` grow by an unforeseeable step."""

    __slots__ = ("front", "milliseconds", "numbers")

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds
        digits = f"{milliseconds:012x}"
        self.front = f"{digits[:8]}-{digits[8:]}"
        random = int.from_bytes(os.urandom(START_BYTES + STEP_BYTES), "big")
        # The top bit stays free, so that ids of one millisecond have room to grow.
        start = random >> (8 * (START_BYTES + STEP_BYTES) - COUNTER_BITS + 1)
        self.numbers = itertools.count(start, 1 + random % (1 << (8 * STEP_BYTES)))


task_ids: Final = IdSource()
new_task_id: Final = task_ids.new
os.register_at_fork(after_in_child=task_ids.begin_anew)
