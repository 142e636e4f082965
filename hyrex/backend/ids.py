"""Ids of tasks: UUIDv7, made by the sender.

Randomness comes from the operating system, also after a fork. Ids of one process grow in the order in which
they are made. The clock is this machine's, plus an offset if a broker refused an id for its time.
"""

import itertools
import os
import sys
import time
from array import array
from collections.abc import Sequence
from typing import Final
from uuid import UUID

__all__ = ["ID_BYTES", "IdSource", "given_id", "new_task_id", "task_ids"]

VERSION: Final = 7 << 12
VARIANT: Final = 0b10 << 62
LOW_BITS: Final = 62
LOW_MASK: Final = (1 << LOW_BITS) - 1
COUNTER_BITS: Final = 74
START_BYTES: Final = 10
STEP_BYTES: Final = 4
ID_BYTES: Final = 16
TIME_SHIFT: Final = 16


class IdSource:
    """Makes ids in canonical text form.

    It holds no lock, since a signal handler or a finalizer may interrupt it anywhere and make an id too.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all state. For the child of a fork, which must not make the ids of its parent."""
        self._offset_ms = 0
        self._moment = Moment(0)

    def new(self) -> str:
        """Make a new id, greater than all before it unless `correct_clock` has set the clock back."""
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

    def many(self, count: int) -> bytes:
        """So many new ids, 16 bytes each, in the order of new()."""
        now_ms = time.time_ns() // 1_000_000 + self._offset_ms
        if now_ms > self._moment.milliseconds:
            self._begin(now_ms)
        moment = self._moment
        numbers = list(itertools.islice(moment.numbers, count))
        while numbers and numbers[-1] >> COUNTER_BITS:
            self._begin(moment.milliseconds + 1)
            moment = self._moment
            numbers = list(itertools.islice(moment.numbers, count))
        return moment.packed(numbers)

    def correct_clock(self, server_time_ms: int) -> None:
        """Make new ids by the broker's clock from now on."""
        self._offset_ms = server_time_ms - time.time_ns() // 1_000_000
        self._moment = Moment(0)

    def _begin(self, milliseconds: int) -> None:
        made = Moment(milliseconds)
        # Another thread may have set a later moment meanwhile: keep that one.
        if milliseconds > self._moment.milliseconds:
            self._moment = made


class Moment:
    """Ids of one millisecond: they have the same beginning, and `numbers` grow by a random step."""

    __slots__ = ("front", "milliseconds", "numbers")

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds
        digits = f"{milliseconds:012x}"
        self.front = f"{digits[:8]}-{digits[8:]}"
        random = int.from_bytes(os.urandom(START_BYTES + STEP_BYTES), "big")
        # The top bit starts as 0, so that the numbers of one millisecond can grow.
        start = random >> (8 * (START_BYTES + STEP_BYTES) - COUNTER_BITS + 1)
        self.numbers = itertools.count(start, 1 + random % (1 << (8 * STEP_BYTES)))

    def packed(self, numbers: Sequence[int]) -> bytes:
        """Ids of these numbers, as bytes."""
        front = self.milliseconds << TIME_SHIFT | VERSION
        highest = [front | number >> LOW_BITS for number in numbers]
        words = array("Q", bytes(ID_BYTES * len(numbers)))
        words[::2] = array("Q", highest)
        words[1::2] = array("Q", [number & LOW_MASK | VARIANT for number in numbers])
        if sys.byteorder == "little":
            words.byteswap()
        return words.tobytes()


task_ids: Final = IdSource()
new_task_id: Final = task_ids.new
os.register_at_fork(after_in_child=task_ids.begin_anew)


def given_id(task_id: UUID | str) -> UUID:
    """A task's id as a user gives it. Raises ValueError."""
    try:
        return UUID(str(task_id))
    except ValueError:
        raise ValueError(f"the id of a task is a UUID, as in handle.id, got {task_id!r:.200}") from None
