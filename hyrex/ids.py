"""Ids of tasks: UUIDv7, made where the task is sent.

Randomness is the operating system's, afresh after a fork; ids of one process grow in the order
they are made. The clock is this machine's plus an offset that a broker may have taught.
"""

import os
import threading
import time
from typing import Final

__all__ = ["IdSource", "new_task_id", "task_ids"]

VERSION: Final = 7 << 12
VARIANT: Final = 0b10 << 62
LOW_BITS: Final = 62
LOW_MASK: Final = (1 << LOW_BITS) - 1
COUNTER_BITS: Final = 74


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
        self._steps: list[int] = []
        self._front = ""

    def new(self) -> str:
        """A new id, greater than all before it unless the clock was corrected backwards."""
        with self._lock:
            now_ms = time.time_ns() // 1_000_000 + self._offset_ms
            if now_ms > self._last_ms:
                self._begin(now_ms)
                # The top bit stays free, so that ids of one millisecond have room to grow.
                self._counter = int.from_bytes(os.urandom(10), "big") >> (80 - COUNTER_BITS + 1)
            else:
                self._counter += 1 + self._step()
                if self._counter >> COUNTER_BITS:
                    self._begin(self._last_ms + 1)
                    self._counter &= (1 << (COUNTER_BITS - 1)) - 1
            low = f"{self._counter & LOW_MASK | VARIANT:016x}"
            return f"{self._front}-{self._counter >> LOW_BITS | VERSION:04x}-{low[:4]}-{low[4:]}"

    def correct_clock(self, server_time_ms: int) -> None:
        """Make new ids by the broker's clock; ids that exist keep their names."""
        with self._lock:
            self._offset_ms = server_time_ms - time.time_ns() // 1_000_000
            self._last_ms = 0

    def _begin(self, milliseconds: int) -> None:
        """Ids of this millisecond begin alike."""
        self._last_ms = milliseconds
        digits = f"{milliseconds:012x}"
        self._front = f"{digits[:8]}-{digits[8:]}"

    def _step(self) -> int:
        if not self._steps:
            self._steps = memoryview(os.urandom(1024)).cast("I").tolist()
        return self._steps.pop()


task_ids: Final = IdSource()
new_task_id: Final = task_ids.new
os.register_at_fork(after_in_child=task_ids.begin_anew)
