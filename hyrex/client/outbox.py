"""The queue of tasks to be sent: those that arrive while frames are in flight form the next frame.

There is no timer: when a frame can be sent, it takes what is queued. Callers add and abandon from any thread;
everything else happens in the client's thread. Knows neither gRPC nor event loops.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyrex.backend.outgoing import Outgoing, Progress, SendResult
from hyrex.client.waiters import Waiter

__all__ = ["FRAME_BYTES", "FRAME_ITEMS", "Frame", "Parcel", "SendQueue"]

FRAME_ITEMS: Final = 1000
FRAME_BYTES: Final = 1024 * 1024


class Parcel:
    """The tasks of one caller: the size of each in a frame, and its result."""

    __slots__ = (
        "abandoned", "answered_at", "outcomes", "remaining", "repeated", "sizes", "tasks", "waiter"
    )  # fmt: skip

    def __init__(self, tasks: Sequence[Outgoing], sizes: list[int], waiter: Waiter) -> None:
        self.tasks = tasks
        self.sizes = sizes
        self.waiter = waiter
        self.remaining = len(sizes)
        self.outcomes: list[SendResult] = [Progress.WAITING] * self.remaining
        self.abandoned = False
        self.repeated = False  # some of it was sent before, and may be stored
        self.answered_at = time.monotonic()


Part = tuple[Parcel, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Slices of parcels that are sent together."""

    parts: list[Part]

    def tasks(self) -> Sequence[Outgoing]:
        """Its tasks, in their order."""
        if len(self.parts) == 1:
            parcel, start, stop = self.parts[0]
            return parcel.tasks[start:stop]
        return [task for parcel, a, b in self.parts for task in parcel.tasks[a:b]]


class SendQueue:
    """Slices of parcels that are in no frame yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: deque[Part] = deque()
        self._count = 0
        self._woken = False
        self._returning = 0

    def add(self, parcel: Parcel) -> bool:
        """Add a parcel. Return True if the client's thread must be woken for it."""
        with self._lock:
            before, self._count = self._count, self._count + len(parcel.sizes)
            self._parts.append((parcel, 0, len(parcel.sizes)))
            full = before < FRAME_ITEMS <= self._count
            if self._returning and not full:
                return False  # the last of them to return wakes it
            wake = not self._woken or full
            self._woken = True
            return wake

    def expect(self, callers: int) -> bool:
        """Note that so many threads are about to run, because they got their answers, and may send again.

        Return True if the next frame should wait for what they send. Otherwise the first of them would fill a
        frame with its single task, and the others would wait for that frame.
        """
        with self._lock:
            self._returning = callers if callers > 1 or self._parts else 0
            return bool(self._returning)

    def returned(self) -> bool:
        """Note that an expected thread runs. Return True if it was the last, and the client must be woken."""
        if not self._returning:
            return False
        with self._lock:
            self._returning = max(0, self._returning - 1)
            return not self._returning and bool(self._parts)

    @property
    def is_expecting(self) -> bool:
        """True while so much is expected that a frame should wait for it."""
        return bool(self._returning) and not self.fills_a_frame

    def abandon(self, parcel: Parcel) -> None:
        """Drop the tasks of a caller that does not wait any more: they are neither sent nor repeated.

        So nothing is kept for longer than its caller waits, even if no frame can be sent.
        """
        with self._lock:
            parcel.abandoned = True
            while self._parts and self._parts[0][0].abandoned:
                _, start, stop = self._parts.popleft()
                self._count -= stop - start
                # The client's thread, woken for it, will find nothing: wake it again for the next parcel.
                self._woken = self._woken and bool(self._parts)

    @property
    def fills_a_frame(self) -> bool:
        """True if there is enough for a full frame, so that waiting for more gains nothing."""
        return self._count >= FRAME_ITEMS

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to take."""
        return not self._parts

    def take(self) -> Frame | None:
        """The next frame, its tasks marked as sent; None if there is nothing to send."""
        with self._lock:
            self._woken = False
            parts: list[Part] = []
            room = FrameSpace()
            while self._parts and room.items:
                part = self._take_part(room)
                if part is not None:
                    parts.append(part)
            return Frame(parts) if parts else None

    def _take_part(self, room: "FrameSpace") -> Part | None:
        parcel, start, stop = self._parts.popleft()
        if parcel.abandoned:
            self._count -= stop - start
            return None
        end = room.fill(parcel.sizes, start, stop)
        if end < stop:
            room.items = 0
            # To the back, so that a caller with a million tasks does not delay one with a single task.
            self._parts.append((parcel, end, stop))
        if end == start:
            return None
        self._count -= end - start
        parcel.outcomes[start:end] = [Progress.UNANSWERED] * (end - start)
        return parcel, start, end

    def put_back(self, frame: Frame) -> None:
        """Send these tasks again, before all others."""
        with self._lock:
            parts = [part for part in reversed(frame.parts) if not part[0].abandoned]
            for parcel, _, _ in parts:
                parcel.repeated = True
            self._parts.extendleft(parts)
            self._count += sum(stop - start for _, start, stop in parts)


@dataclass(slots=True)
class FrameSpace:
    """The space left in a frame; a single item fits at any size."""

    items: int = FRAME_ITEMS
    size_bytes: int = FRAME_BYTES

    def fill(self, sizes: Sequence[int], start: int, stop: int) -> int:
        """Take items of these sizes from `start` on; return the index after the last one taken."""
        end = min(stop, start + self.items)
        if (total := sum(sizes[start:end])) <= self.size_bytes:
            self.items -= end - start
            self.size_bytes -= total
            return end
        at = start
        while at < stop and self.items:
            size = sizes[at]
            if size > self.size_bytes and self.items < FRAME_ITEMS:
                break
            self.size_bytes -= size
            self.items -= 1
            at += 1
        return at
