"""Tasks that a broker has no room for are sent again when it said, until the send timeout is over."""

from collections.abc import Sequence
from typing import Final

import pytest

from hyrex import HyrexRegistry, QueueFull
from hyrex.backend.outgoing import Outgoing, Postponed, Progress, SendResult, prepare
from hyrex.client import postponed
from hyrex.client.postponed import persist

DELAY_S: Final = 1.0
hy = HyrexRegistry()
FULL: Final = Postponed(QueueFull("full", "QUOTA_EXCEEDED", {"queue": "q", "limit": "1"}), DELAY_S)


@hy.task
def work() -> None: ...


def tasks(count: int) -> list[Outgoing]:
    return [prepare(work._spec, b"{}") for _ in range(count)]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(postponed, "time", clock)
    return clock


class Broker:
    """Has room for so many tasks at each attempt."""

    def __init__(self, clock: Clock, *rooms: int) -> None:
        self.clock = clock
        self.rooms = list(rooms)
        self.times: list[float] = []
        self.asked: list[list[str]] = []

    def store(self, sent: Sequence[Outgoing]) -> list[SendResult]:
        self.times.append(self.clock.monotonic())
        self.asked.append([task.task_id for task in sent])
        room = self.rooms.pop(0) if self.rooms else 0
        return [Progress.STORED if at < room else FULL for at in range(len(sent))]


def test_only_what_was_refused_is_sent_again_under_its_id_and_not_sooner_than_told(clock: Clock) -> None:
    broker, sent = Broker(clock, 1, 0, 5), tasks(3)
    assert persist(broker.store, sent, timeout_s=60) == [Progress.STORED] * 3
    ids = [task.task_id for task in sent]
    assert broker.asked == [ids, ids[1:], ids[1:]]
    assert all(
        later - sooner >= DELAY_S for sooner, later in zip(broker.times, broker.times[1:], strict=False)
    )


def test_when_the_time_is_up_the_refusal_stays(clock: Clock) -> None:
    broker = Broker(clock)
    assert persist(broker.store, tasks(2), timeout_s=5 * DELAY_S) == [FULL, FULL]
    assert len(broker.times) in (4, 5)
    assert broker.times[-1] < 5 * DELAY_S


def test_a_delay_beyond_the_time_that_is_left_is_not_waited_for(clock: Clock) -> None:
    broker = Broker(clock)
    assert persist(broker.store, tasks(1), timeout_s=DELAY_S / 2) == [FULL]
    assert len(broker.times) == 1


def test_many_are_waited_for_as_long_as_some_find_room(clock: Clock) -> None:
    """All together for longer than the timeout."""
    count = 10
    broker = Broker(clock, *[1] * count)
    assert persist(broker.store, tasks(count), timeout_s=2 * DELAY_S) == [Progress.STORED] * count


def test_nothing_sent_asks_nobody(clock: Clock) -> None:
    broker = Broker(clock)
    assert persist(broker.store, [], timeout_s=1) == []
    assert broker.times == []
