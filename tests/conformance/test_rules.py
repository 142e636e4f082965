"""What is seen of a worker's stream, judged by the rules: with a clock of the tests' own."""

from collections.abc import Callable

import pytest

from hyrex.v1 import worker_service_pb2 as wire
from tests.conformance.rules import Rules

INTERVAL_S = 1.0
STEADY = [100.0 + number for number in range(8)]


class Stream:
    """A stream of a worker that was assigned one run and reported it, seen at moments that a test says."""

    def __init__(self, clock: Callable[[float], None]) -> None:
        self._clock = clock
        self.rules = Rules()
        self._seen = self.rules.stream()
        self._beats = 0
        self._clock(STEADY[0])
        self._seen.from_worker(wire.WorkRequest(hello=wire.Hello()))
        welcome = wire.Welcome(session_id="1")
        welcome.heartbeat_interval.FromMilliseconds(round(INTERVAL_S * 1000))
        self._seen.from_broker(wire.WorkResponse(welcome=welcome))
        self._seen.from_broker(wire.WorkResponse(assignments=wire.Assignments(sequence=1)))

    def beat(self, at: float, received_through: int) -> None:
        self._clock(at)
        self._beats += 1
        beat = wire.Heartbeat(sequence=self._beats, received_through=received_through)
        self._seen.from_worker(wire.WorkRequest(heartbeat=beat))

    def assign(self, at: float) -> None:
        self._clock(at)
        self._seen.from_broker(wire.WorkResponse(assignments=wire.Assignments(sequence=2)))


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    def clock(at: float) -> None:
        monkeypatch.setattr("tests.conformance.rules.time.monotonic", lambda: at)

    return Stream(clock)


def test_a_worker_that_does_not_say_what_it_read_long_ago_breaks_a_rule(stream: Stream) -> None:
    for at in STEADY[:3]:
        stream.beat(at, 1)
    stream.assign(STEADY[2] + 0.1)
    for at in STEADY[3:]:
        stream.beat(at, 1)
    assert "heartbeat says received_through 1, sent were 2 to 2" in stream.rules.broken


def test_heartbeats_that_were_held_up_on_their_way_break_none(stream: Stream) -> None:
    """Made once a second, and read at once with what was sent meanwhile: this process stood still."""
    for at in STEADY[:3]:
        stream.beat(at, 1)
    late = STEADY[2] + 4
    stream.rules.timely = False
    stream.assign(late)
    for number in range(4):
        stream.beat(late + 0.01 * (number + 1), 1)
    stream.beat(late + 1, 2)
    assert stream.rules.broken == []
