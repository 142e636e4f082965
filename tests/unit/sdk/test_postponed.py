"""Tasks that a broker has no room for are sent again when it said, until the send timeout is over."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from hyrex import HyrexRegistry, QueueFull
from hyrex.backend.outgoing import Outgoing, Postponed, Progress, SendResult, Untimely, prepare
from hyrex.client import postponed
from hyrex.client.outbox import FRAME_ITEMS
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
        self.within: list[float] = []

    def store(self, sent: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        self.times.append(self.clock.monotonic())
        self.within.append(within_s)
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
    assert len(broker.times) >= 3
    assert all(
        began + within == pytest.approx(5 * DELAY_S)
        for began, within in zip(broker.times, broker.within, strict=True)
    )


def test_a_delay_beyond_the_time_that_is_left_is_not_waited_for(clock: Clock) -> None:
    broker = Broker(clock)
    assert persist(broker.store, tasks(1), timeout_s=DELAY_S / 2) == [FULL]
    assert len(broker.times) == 1


def test_many_are_waited_for_as_long_as_some_find_room(clock: Clock) -> None:
    """All together for longer than the timeout."""
    count = 10
    broker = Broker(clock, *[1] * count)
    assert persist(broker.store, tasks(count), timeout_s=3 * DELAY_S) == [Progress.STORED] * count


def test_nothing_sent_asks_nobody(clock: Clock) -> None:
    broker = Broker(clock)
    assert persist(broker.store, [], timeout_s=1) == []
    assert broker.times == []


def test_of_many_only_some_are_sent_again_at_a_time_in_their_order(clock: Clock) -> None:
    """Fewer when none found room, and more when all did."""
    many, some = 5000, FRAME_ITEMS
    sizes = [some, some // 2, some // 4, some // 2, some]
    rooms = [0, 0, 0, *[many] * 10]
    broker, sent = Broker(clock, *rooms), tasks(many)
    assert persist(broker.store, sent, timeout_s=60) == [Progress.STORED] * many
    assert list(map(len, broker.asked))[1:6] == sizes
    ids = [task.task_id for task in sent]
    assert broker.asked[4] == ids[250:750]
    assert broker.times[5] == broker.times[4], "what found room is no reason to wait"


def test_tasks_for_a_full_queue_keep_none_back_that_are_for_another(clock: Clock) -> None:
    other = Postponed(QueueFull("full", "QUOTA_EXCEEDED", {"queue": "other", "limit": "1"}), DELAY_S)
    sent = tasks(FRAME_ITEMS + 1)
    last, rounds = sent[-1].task_id, 0

    def store(some: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        nonlocal rounds
        rounds += 1
        again = Progress.STORED if rounds > 1 else other
        return [again if task.task_id == last else FULL for task in some]

    assert persist(store, sent, timeout_s=10) == [FULL] * FRAME_ITEMS + [Progress.STORED]


def test_a_delay_of_nothing_is_a_short_pause(clock: Clock) -> None:
    at_once = Postponed(FULL.error, 0.0)
    times: list[float] = []

    def store(some: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        times.append(clock.now)
        return [at_once] * len(some)

    assert persist(store, tasks(1), timeout_s=4) == [at_once]
    assert len(times) <= 2 / 0.05 + 2


@pytest.mark.parametrize(
    ("later", "known"),
    [
        (FULL, replace(FULL, may_be_stored=True)),
        (Progress.WAITING, Progress.UNANSWERED),
        (Untimely(FULL.error), FULL.error),
        (Progress.STORED, Progress.STORED),
    ],
)
def test_an_attempt_without_an_answer_is_not_forgotten(
    clock: Clock, later: SendResult, known: SendResult
) -> None:
    answers = iter([replace(FULL, may_be_stored=True)])

    def store(some: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        return [next(answers, later)]

    assert persist(store, tasks(1), timeout_s=5) == [known]
