"""How free capacity is shared among the lanes that have work."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hyrex_broker.domain.model import LaneId, SessionId
from hyrex_broker.engine.session import Session, Shape
from hyrex_broker.engine.turns import MARK_LAG, ZERO, Turns
from hyrex_broker.storage.assign import AssignResult, LaneQuota
from tests.integration.engine.bench import Link

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RANK = 5


def lanes(*numbers: int) -> list[LaneId]:
    return [LaneId(number) for number in numbers]


def shape(served: list[LaneId], free: int, number: int = 1) -> Shape:
    """Sessions that serve some lanes: one, with so many free slots."""
    made = Shape(("*",), {}, dict.fromkeys(served, "sync"))
    session = Session(SessionId(number), 0, b"", made, {"sync": free}, Link())
    made.sessions[session.session_id] = session
    return made


def shares(quotas: list[LaneQuota]) -> Counter[LaneId]:
    return Counter({quota.lane: len(quota.slots) for quota in quotas})


def woken(*numbers: int) -> Turns:
    turns = Turns()
    turns.wake((lane, RANK) for lane in lanes(*numbers))
    return turns


def test_lanes_that_nobody_here_serves_take_no_share() -> None:
    turns = woken(*range(1, 202))
    plan = turns.plan([shape(lanes(201), free=900)], lambda lane: True)
    assert shares(plan) == {LaneId(201): 900}


def test_lanes_whose_workers_are_full_take_no_share() -> None:
    turns = woken(1, 2)
    plan = turns.plan([shape(lanes(1), free=0), shape(lanes(2), free=100, number=2)], lambda lane: True)
    assert shares(plan) == {LaneId(2): 100}


def test_lanes_of_one_rank_share_evenly() -> None:
    plan = woken(1, 2, 3, 4).plan([shape(lanes(1, 2, 3, 4), free=100)], lambda lane: True)
    assert shares(plan) == dict.fromkeys(lanes(1, 2, 3, 4), 25)


def test_a_lane_that_was_read_empty_is_read_from_there_on() -> None:
    turns = woken(1)
    here = [shape(lanes(1), free=10)]
    (quota,) = turns.plan(here, lambda lane: True)
    assert quota.pairs == [(RANK, ZERO)]
    turns.learn([quota], AssignResult([], NOW, refused=False))
    assert turns.served(here) == set()
    turns.wake([(LaneId(1), RANK)])
    (again,) = turns.plan(here, lambda lane: True)
    assert again.pairs == [(RANK, NOW - MARK_LAG)]


def test_a_mark_is_lowered_to_a_row_that_was_left_below_it() -> None:
    turns = woken(1)
    turns.read_empty([(LaneId(1), RANK)], NOW)
    left = NOW - timedelta(minutes=1)
    turns.lower(LaneId(1), RANK, left)
    (quota,) = turns.plan([shape(lanes(1), free=10)], lambda lane: True)
    assert quota.pairs == [(RANK, left)]
