"""Threads that are notified together wake one another; whoever is gone holds up nobody."""

import asyncio
import threading

from hyrex.client.waiters import ThreadWaiter, notify_all


def test_all_of_a_row_are_woken() -> None:
    waiters = [ThreadWaiter() for _ in range(40)]
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda w=w: woken.append(w.wait(20))) for w in waiters]
    for thread in threads:
        thread.start()
    notify_all(waiters)
    for thread in threads:
        thread.join()
    assert woken == [True] * 40


async def test_the_next_is_woken_by_the_one_before() -> None:
    first, second = ThreadWaiter(), ThreadWaiter()
    notify_all([first, second])
    assert not second.wait(0)
    assert first.wait(0)
    assert second.wait(0)


async def test_who_left_before_passes_on() -> None:
    first, gone, last = ThreadWaiter(), ThreadWaiter(), ThreadWaiter()
    gone.leave()
    notify_all([first, gone, last])
    assert last.wait(0)
    assert first.wait(0)


async def test_who_leaves_without_looking_passes_on() -> None:
    interrupted, last = ThreadWaiter(), ThreadWaiter()
    notify_all([interrupted, last])
    interrupted.leave()
    assert last.wait(0)


async def test_one_that_was_held_up_wakes_all_the_others() -> None:
    waiters = [ThreadWaiter() for _ in range(4)]
    notify_all(waiters)
    threading.Event().wait(0.01)  # another thread has the interpreter
    assert waiters[0].wait(0)
    assert [waiter.wait(0) for waiter in reversed(waiters[1:])] == [True] * 3


async def test_one_that_is_kept_from_running_keeps_nobody_else() -> None:
    """A signal handler that interrupts it may wait for the next one itself."""
    kept, second, third = ThreadWaiter(), ThreadWaiter(), ThreadWaiter()
    notify_all([kept, second, third])
    async with asyncio.timeout(60):
        while not second.wait(0):
            await asyncio.sleep(0.001)
    assert third.wait(0)
    assert kept.wait(0)


def test_to_notify_again_does_nothing() -> None:
    waiter = ThreadWaiter()
    waiter.notify()
    waiter.notify()
    assert waiter.wait(0)
    assert not waiter.wait(0)
