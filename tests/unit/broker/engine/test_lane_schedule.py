"""How free capacity is shared among the lanes that have work."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from hyrex_broker.domain.model import LaneId, SessionId
from hyrex_broker.engine.dispatch.lane_schedule import MOST_RUNS, ZERO, LaneSchedule
from hyrex_broker.engine.sessions.session import ServedSession, WorkerProfile
from hyrex_broker.storage.assign import AssignResult, LaneQuota
from hyrex_broker.storage.settings import LONGEST_STATEMENT
from tests.integration.engine.bench import Link

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RANK = 5


def lanes(*numbers: int) -> list[LaneId]:
    return [LaneId(number) for number in numbers]


def profile(served: list[LaneId], free: int, number: int = 1) -> WorkerProfile:
    """Sessions that serve some lanes: one, with so many free slots."""
    made = WorkerProfile(("*",), {}, dict.fromkeys(served, "sync"))
    session = ServedSession(SessionId(number), 0, b"", made, {"sync": free}, Link())
    made.sessions[session.session_id] = session
    return made


def shares(quotas: list[LaneQuota]) -> Counter[LaneId]:
    return Counter({quota.lane: len(quota.slots) for quota in quotas})


def woken(*numbers: int) -> LaneSchedule:
    schedule = LaneSchedule()
    schedule.wake((lane, RANK) for lane in lanes(*numbers))
    return schedule


def test_lanes_that_nobody_here_serves_take_no_share() -> None:
    schedule = woken(*range(1, 202))
    plan = schedule.plan([profile(lanes(201), free=900)], lambda lane: True)
    assert shares(plan) == {LaneId(201): 900}


def test_lanes_whose_workers_are_full_take_no_share() -> None:
    schedule = woken(1, 2)
    plan = schedule.plan(
        [profile(lanes(1), free=0), profile(lanes(2), free=100, number=2)], lambda lane: True
    )
    assert shares(plan) == {LaneId(2): 100}


def test_lanes_of_one_rank_share_evenly() -> None:
    plan = woken(1, 2, 3, 4).plan([profile(lanes(1, 2, 3, 4), free=100)], lambda lane: True)
    assert shares(plan) == dict.fromkeys(lanes(1, 2, 3, 4), 25)


def test_a_lane_that_was_read_empty_is_read_from_there_on() -> None:
    schedule = woken(1)
    here = [profile(lanes(1), free=10)]
    (quota,) = schedule.plan(here, lambda lane: True)
    assert quota.pairs == [(RANK, ZERO)]
    schedule.learn([quota], AssignResult([], NOW, refused=False))
    assert not schedule.any_served(here, lambda lane: True)
    schedule.wake([(LaneId(1), RANK)])
    (again,) = schedule.plan(here, lambda lane: True)
    assert again.pairs == [(RANK, NOW - LONGEST_STATEMENT)]


def test_a_mark_is_lowered_to_a_row_that_was_left_below_it() -> None:
    schedule = woken(1)
    schedule.read_empty([(LaneId(1), RANK)], NOW)
    left = NOW - timedelta(minutes=1)
    schedule.lower(LaneId(1), RANK, left)
    (quota,) = schedule.plan([profile(lanes(1), free=10)], lambda lane: True)
    assert quota.pairs == [(RANK, left)]


def many(number: int) -> tuple[LaneSchedule, list[LaneId]]:
    served = lanes(*range(1, number + 1))
    return woken(*range(1, number + 1)), served


def test_no_lane_takes_more_than_its_share_of_a_plan() -> None:
    schedule, served = many(4)
    plan = schedule.plan([profile(served, free=8000)], lambda lane: True)
    assert shares(plan) == dict.fromkeys(served, MOST_RUNS // 4)


def test_each_lane_is_served_once_before_any_is_served_twice() -> None:
    schedule, served = many(2500)
    here, seen = [profile(served, free=8000)], Counter[LaneId]()
    for _ in range(5):
        seen.update([quota.lane for quota in schedule.plan(here, lambda lane: True)])
    assert seen == dict.fromkeys(served, 2)


def test_a_crowd_of_lanes_with_little_room_takes_nothing_from_a_lane_with_workers_of_its_own() -> None:
    schedule = woken(*range(1, 10_002))
    crowd = profile(lanes(*range(1, 10_001)), free=10)
    own = profile(lanes(10_001), free=900, number=2)
    plan = schedule.plan([crowd, own], lambda lane: True)
    assert shares(plan)[LaneId(10_001)] >= 90
    assert len(plan) == 11


def test_a_plan_looks_at_no_more_lanes_than_it_serves() -> None:
    """However many wait: those without room, those that nobody serves, those that are paused."""
    served = lanes(*range(1, 40_001))
    schedule, looked = woken(*range(1, 40_001)), []
    here = [profile(served[:20_000], free=0), profile(served[20_000:30_000], free=5, number=2)]

    def readable(lane: LaneId) -> bool:
        looked.append(lane)
        return lane > 20_100

    schedule.plan(here, readable)
    assert looked == served[20_000:20_105]
    looked.clear()
    assert [quota.lane for quota in schedule.plan(here, readable)] == served[20_105:20_110]
    assert looked == served[20_105:20_110], "a paused lane is passed over once"


def test_a_lane_that_was_paused_has_its_turn_again_after_a_change() -> None:
    schedule, here = woken(1), [profile(lanes(1), free=5)]
    assert schedule.plan(here, lambda lane: False) == []
    assert schedule.plan(here, lambda lane: True) == []
    schedule.look_again()
    assert shares(schedule.plan(here, lambda lane: True)) == {LaneId(1): 5}


def test_lanes_find_the_sessions_that_come_later_and_lose_those_that_go() -> None:
    schedule = woken(1, 2)
    first, second = profile(lanes(1), free=4), profile(lanes(1), free=4, number=2)
    assert schedule.plan([], lambda lane: True) == []
    assert shares(schedule.plan([first], lambda lane: True)) == {LaneId(1): 4}
    assert shares(schedule.plan([first, second], lambda lane: True)) == {LaneId(1): 8}
    second.lanes[LaneId(2)] = "sync"
    assert shares(schedule.plan([second], lambda lane: True)) == {LaneId(1): 2, LaneId(2): 2}


def test_free_slots_are_filled_before_anything_is_sent_to_wait() -> None:
    made = WorkerProfile(("*",), {}, {LaneId(1): "sync"})
    for number, (capacity, slots) in enumerate([(1000, 2), (500, 1), (3, 3)], 1):
        session = ServedSession(
            SessionId(number), 0, b"", made, {"sync": capacity}, Link(), slots={"sync": slots}
        )
        made.sessions[session.session_id] = session
    begun: Counter[SessionId] = Counter()
    for count in (1, 2, 3):  # fewer than there are sessions, and as many
        for session_id in woken(1).reserve_slots([made], {LaneId(1): count})[0].slots:
            made.sessions[session_id].reserve("sync", 1)
            begun[session_id] += 1
    assert begun == {SessionId(1): 2, SessionId(2): 1, SessionId(3): 3}
    (waiting,) = woken(1).reserve_slots([made], {LaneId(1): 4})
    assert Counter(waiting.slots) == {SessionId(1): 2, SessionId(2): 2}


@pytest.mark.parametrize("sessions", [2, 8])
def test_runs_take_the_second_slot_of_one_session_before_a_place_to_wait_at_another(sessions: int) -> None:
    made = WorkerProfile(("*",), {}, {LaneId(1): "sync"})
    for number in range(1, sessions + 1):
        session = ServedSession(SessionId(number), 0, b"", made, {"sync": 100}, Link(), slots={"sync": 1})
        session.reserve("sync", 1)
        made.sessions[session.session_id] = session
    made.sessions[SessionId(sessions)].slots["sync"] = 4
    (quota,) = woken(1).reserve_slots([made], {LaneId(1): 3})
    assert quota.slots == [SessionId(sessions)] * 3


def test_few_slots_go_to_the_freest_of_many_sessions() -> None:
    made = WorkerProfile(("*",), {}, {LaneId(1): "sync", LaneId(2): "sync"})
    for number in range(1, 101):
        session = ServedSession(SessionId(number), 0, b"", made, {"sync": number}, Link())
        made.sessions[session.session_id] = session
    schedule = woken(1, 2)
    for session in list(made.sessions.values())[:-6]:
        session.draining = True
    first, second = schedule.plan([made], lambda lane: True)
    assert len(first.slots) + len(second.slots) == sum(range(95, 101))
    assert Counter(first.slots + second.slots) == {SessionId(number): number for number in range(95, 101)}
