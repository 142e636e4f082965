"""Lets a caller wait, in a thread or on its own event loop, until the client's thread has its answer."""

import asyncio
import threading
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

__all__ = ["LoopWaiter", "ThreadWaiter", "Waiter", "notify_all"]

_ROW_S: Final = 0.005  # how long a row of threads may take to wake one another
_HELD_UP_S: Final = 0.004  # less than the 5 ms after which a thread must release the interpreter's lock


class ThreadWaiter:
    """A thread that blocks. It uses a bare lock, since an Event costs several times as much per send.

    Threads that are notified together wake one another in a row, each the next as soon as it runs. All need
    the interpreter's lock, and if thirty compete for it, that takes longer than their work (54 us a thread
    instead of 33, with 25 us of work).
    """

    __slots__ = ("_called_at", "_following", "_gone", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._following: ThreadWaiter | None = None
        self._called_at = 0.0
        self._gone = False

    def wait(self, timeout_s: float | None) -> bool:
        """Return True if notify() came within the time; may be repeated until it did."""
        limit = -1 if timeout_s is None else min(max(timeout_s, 0), threading.TIMEOUT_MAX)
        notified = self._lock.acquire(timeout=limit)
        if notified and self._following is not None:
            self._pass_on()
        return notified

    def leave(self) -> None:
        """Stop waiting, notified or not, and wake the next thread of the row. Always call it at the end."""
        self._gone = True
        if self._following is not None:
            self._pass_on()

    def notify(self) -> None:
        """Wake the thread. A second call does nothing."""
        self._called_at = time.monotonic()
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it was notified before

    @property
    def is_gone(self) -> bool:
        """True if it has stopped waiting."""
        return self._gone

    def precede(self, following: "ThreadWaiter") -> None:
        """Have this one wake another. Notify the first of a row only when the row is complete."""
        self._following = following
        if self._gone:
            self._pass_on()

    def _pass_on(self) -> None:
        # Cleared last: if this is interrupted here, `leave` wakes the next again.
        following = self._following
        # If some thread keeps the interpreter's lock, each thread of the row would wait for it again.
        held_up = time.monotonic() - self._called_at > _HELD_UP_S
        while following is not None:
            following.notify()
            following = following._following if held_up else None
        self._following = None


class LoopWaiter:
    """A coroutine that awaits on the event loop on which this was made."""

    __slots__ = ("_future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self.loop.create_future()

    async def wait(self, timeout_s: float | None) -> bool:
        """Return True if notify() came within the time; may be repeated until it did."""
        limit = None if timeout_s is None else min(max(timeout_s, 0), threading.TIMEOUT_MAX)
        done, _ = await asyncio.wait([self._future], timeout=limit)
        return bool(done)

    def notify(self) -> None:
        """Wake the coroutine; from any thread."""
        _notify_loop(self.loop, [self])

    def settle(self) -> None:
        """Wake the coroutine; on its own loop."""
        if not self._future.done():
            self._future.set_result(None)


Waiter = ThreadWaiter | LoopWaiter


def notify_all(waiters: Iterable[Waiter]) -> None:
    """Wake every waiter: threads in a row, and those on an event loop with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[LoopWaiter]] = {}
    threads: list[ThreadWaiter] = []
    for waiter in waiters:
        if isinstance(waiter, ThreadWaiter):
            threads.append(waiter)
        else:
            by_loop.setdefault(waiter.loop, []).append(waiter)
    # From the end, so that one that has stopped waiting passes on to a row that is complete.
    for following, waiter in pairwise(reversed(threads)):
        waiter.precede(following)
    if threads:
        threads[0].notify()
        _wake_the_rest_later(threads[1:])
    for loop, ours in by_loop.items():
        _notify_loop(loop, ours)


def _wake_the_rest_later(threads: list[ThreadWaiter]) -> None:
    """Wake all threads of a row a little later, in case one of them does not wake the next.

    A signal handler may keep it from that, for ever if the handler waits for the next thread.
    """
    running = asyncio._get_running_loop()
    if not threads:
        return
    if running is None:
        _wake(threads)
    else:
        running.call_later(_ROW_S, _wake, threads)


def _wake(threads: list[ThreadWaiter]) -> None:
    for waiter in threads:
        if not waiter.is_gone:
            waiter.notify()


def _notify_loop(loop: asyncio.AbstractEventLoop, waiters: list[LoopWaiter]) -> None:
    def settle() -> None:
        for waiter in waiters:
            waiter.settle()

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        pass  # the loop is closed, so nothing awaits there any more
