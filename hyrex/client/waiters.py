"""One caller waiting, in a thread or on a loop of its own, for the client's thread to be done."""

import asyncio
import threading
from collections.abc import Iterable

__all__ = ["LoopWaiter", "ThreadWaiter", "Waiter", "notify_all"]


class ThreadWaiter:
    """A thread that blocks. A bare lock: an Event costs several times as much per send."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether notify() came within the time."""
        limit = -1 if timeout_s is None else min(max(timeout_s, 0), threading.TIMEOUT_MAX)
        return self._lock.acquire(timeout=limit)

    def notify(self) -> None:
        """Wake the thread; once."""
        self._lock.release()


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
    """Wake every waiter, with one call for each loop however many wait on it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[LoopWaiter]] = {}
    for waiter in waiters:
        if isinstance(waiter, ThreadWaiter):
            waiter.notify()
        else:
            by_loop.setdefault(waiter.loop, []).append(waiter)
    for loop, ours in by_loop.items():
        _notify_loop(loop, ours)


def _notify_loop(loop: asyncio.AbstractEventLoop, waiters: list[LoopWaiter]) -> None:
    def settle() -> None:
        for waiter in waiters:
            waiter.settle()

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        pass  # the loop is closed, so nobody awaits there any more
