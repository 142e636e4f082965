"""Threads that were answered together send together: the frame waits for them, and for nobody else."""

from hyrex.client.outbox import FRAME_ITEMS, Parcel, SendQueue
from hyrex.client.waiters import ThreadWaiter


def parcel(items: int = 1) -> Parcel:
    return Parcel([], [4] * items, ThreadWaiter())


def test_the_frame_waits_until_each_of_them_has_run() -> None:
    outbox = SendQueue()
    outbox.expect(3)
    assert not outbox.add(parcel())  # nobody is woken for the first of them
    waited = [(outbox.is_expecting, outbox.returned()) for _ in range(3)]
    assert waited == [(True, False), (True, False), (True, True)]
    assert not outbox.is_expecting
    frame = outbox.take()
    assert frame is not None
    assert [(start, stop) for _, start, stop in frame.parts] == [(0, 1)]


def test_threads_that_send_no_more_wake_nobody() -> None:
    outbox = SendQueue()
    outbox.expect(2)
    assert [outbox.returned() for _ in range(2)] == [False, False]
    assert outbox.add(parcel())


def test_a_single_caller_is_not_waited_for() -> None:
    outbox = SendQueue()
    outbox.expect(1)
    assert not outbox.is_expecting
    assert outbox.add(parcel())


def test_a_full_frame_waits_for_nobody() -> None:
    outbox = SendQueue()
    outbox.expect(5)
    assert outbox.add(parcel(FRAME_ITEMS))
    assert not outbox.is_expecting


def test_a_single_caller_is_waited_for_where_others_wait_already() -> None:
    outbox = SendQueue()
    assert outbox.add(parcel())
    outbox.expect(1)
    assert outbox.is_expecting
    assert outbox.returned()
    frame = outbox.take()
    assert frame is not None
    assert [(start, stop) for _, start, stop in frame.parts] == [(0, 1)]
