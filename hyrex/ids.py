"""Ids of tasks: UUIDv7, made where the task is sent.

Randomness is the operating system's, afresh after a fork; ids of one process grow in the order
they are made. The clock is this machine's plus an offset that a broker may have taught.
"""

import os
import threading
import time
from typing import Final

__all__ = ["IdSource", "new_task_id", "task_ids"]

VERSION_AND_VARIANT: Final = (7 << 76) | (0b10 << 62)
LOW_BITS: Final = 62
COUNTER_BITS: Final = 74
STEP_BYTES: Final = 4


class IdSource:
    """Makes ids in canonical text form."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything, as in a fork's child: no id may come from what the parent knew."""
        self._lock = threading.Lock()
        self._offset_ms = 0
        self._last_ms = 0
        self._counter = 0
        self._random = b""
        self._used = 0

    def new(self) -> str:
        """A new id, greater than all before it unless the clock was corrected backwards."""
        with self._lock:
            now_ms = time.time_ns() // 1_000_000 + self._offset_ms
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                # The top bit stays free, so that ids of one millisecond have room to grow.
                self._counter = int.from_bytes(os.urandom(10), "big") >> (80 - COUNTER_BITS + 1)
            else:
                self._counter += 1 + self._step()
                if self._counter >> COUNTER_BITS:
                    self._last_ms += 1
                    self._counter &= (1 << (COUNTER_BITS - 1)) - 1
            return _text(self._last_ms, self._counter)

    def correct_clock(self, server_time_ms: int) -> None:
        """Make new ids by the broker's clock; ids that exist keep their names."""
        with self._lock:
            self._offset_ms = server_time_ms - time.time_ns() // 1_000_000
            self._last_ms = 0

    def _step(self) -> int:
        if self._used == len(self._random):
            self._random = os.urandom(1024)
            self._used = 0
        self._used += STEP_BYTES
        return int.from_bytes(self._random[self._used - STEP_BYTES : self._used], "big")


def _text(milliseconds: int, counter: int) -> str:
    high, low = counter >> LOW_BITS, counter & ((1 << LOW_BITS) - 1)
    digits = f"{(milliseconds << 80) | VERSION_AND_VARIANT | (high << 64) | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


task_ids: Final = IdSource()
new_task_id: Final = task_ids.new
os.register_at_fork(after_in_child=task_ids.begin_anew)
