"""One caller waiting, in a thread or on a loop of its own, for the client's thread to be done."""

import asyncio
import threading
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

__all__ = ["LoopWaiter", "ThreadWaiter", "Waiter", "notify_all"]

_ROW_S: Final = 0.005  # so long a row of threads may take to wake one another
_HELD_UP_S: Final = 0.004  # a thread that does not let go is made to after 5 ms


class ThreadWaiter:
    """A thread that blocks. A bare lock: an Event costs several times as much per send.

    Threads that are notified together wake one another, each the next as soon as it runs: they all need the
    interpreter's lock, and thirty that contend for it spend more time on that than on what they do (54 us a
    thread instead of 33 where each works for 25).
    """

    __slots__ = ("_called_at", "_following", "_gone", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._following: ThreadWaiter | None = None
        self._called_at = 0.0
        self._gone = False

    def wait(self, timeout_s: float | None) -> bool:
        """Whether notify() came within the time; may be repeated until it did."""
        limit = -1 if timeout_s is None else min(max(timeout_s, 0), threading.TIMEOUT_MAX)
        notified = self._lock.acquire(timeout=limit)
        if notified and self._following is not None:
            self._pass_on()
        return notified

    def leave(self) -> None:
        """Wait no more, notified or not: who was to be woken next is woken now. Always call it last."""
        self._gone = True
        if self._following is not None:
            self._pass_on()

    def notify(self) -> None:
        """Wake the thread; again does nothing."""
        self._called_at = time.monotonic()
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it was awake

    @property
    def is_gone(self) -> bool:
        """Whether it waits no more."""
        return self._gone

    def precede(self, following: "ThreadWaiter") -> None:
        """Another is to be woken by this one. The first of a row is notified when all are in it."""
        self._following = following
        if self._gone:
            self._pass_on()

    def _pass_on(self) -> None:
        # Cleared last: whoever is interrupted in here passes on again as it leaves.
        following = self._following
        # Where some thread holds on to the interpreter's lock, each of a row would wait for it anew.
        held_up = time.monotonic() - self._called_at > _HELD_UP_S
        while following is not None:
            following.notify()
            following = following._following if held_up else None
        self._following = None


class LoopWaiter:
    """A coroutine that awaits on the loop it was made on."""

    __slots__ = ("_future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self.loop.create_future()

    async def wait(self, timeout_s: float | None) -> bool:
        """Whether notify() came within the time; may be repeated until it did."""
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
    """Wake every waiter: threads in a row, and with one call for each loop however many wait on it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[LoopWaiter]] = {}
    threads: list[ThreadWaiter] = []
    for waiter in waiters:
        if isinstance(waiter, ThreadWaiter):
            threads.append(waiter)
        else:
            by_loop.setdefault(waiter.loop, []).append(waiter)
    # From the end, so that whoever has gone passes on to a row that is complete.
    for following, waiter in pairwise(reversed(threads)):
        waiter.precede(following)
    if threads:
        threads[0].notify()
        _wake_the_rest_later(threads[1:])
    for loop, ours in by_loop.items():
        _notify_loop(loop, ours)


def _wake_the_rest_later(threads: list[ThreadWaiter]) -> None:
    """A signal handler may keep a thread from passing on, for ever if it waits for the next one itself."""
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
        pass  # the loop is closed, so nobody awaits there any more
