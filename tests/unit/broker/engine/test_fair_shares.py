"""How the lanes of one queue and task name share a turn, and how fair keys share what it gives (rule 33)."""

from collections import Counter
from datetime import UTC, datetime
from itertools import count

import pytest

from hyrex_broker.domain.model import LaneId, Token
from hyrex_broker.engine.dispatch.fair_shares import FairShares
from hyrex_broker.engine.dispatch.lane_schedule import LaneSchedule
from hyrex_broker.engine.lane_families import LaneFamilies
from hyrex_broker.storage.assign import AssignResult
from hyrex_broker.storage.lanes import Lane
from tests.unit.broker.engine.test_lane_schedule import RANK, lanes, profile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN, FOLLOWED, ADA, BEN, CAT, OTHER = lanes(1, 2, 11, 12, 13, 99)
MET = [
    Lane(PLAIN, "q", "mail"),
    Lane(FOLLOWED, "q", "mail", followed=True),
    Lane(ADA, "q", "mail", bucket=1),
    Lane(BEN, "q", "mail", bucket=2),
    Lane(CAT, "q", "mail", bucket=3),
    Lane(OTHER, "q", "other"),
]
EVERY = [lane.lane_id for lane in MET]


class Board:
    """A schedule, the tasks that wait in its lanes, and one worker; all of it under one maximum."""

    def __init__(self, slots: int, maximum: int | None = None) -> None:
        self.families = LaneFamilies()
        self.profile = profile(EVERY, slots)
        (self.session,) = self.profile.sessions.values()
        self.schedule = LaneSchedule(self.families, FairShares(self.session.by_lane))
        self.maximum = maximum
        self.waiting = Counter[LaneId]()
        self.running: list[tuple[Token, LaneId]] = []
        self._tokens = map(Token, count(1))

    def meet(self) -> "Board":
        """The broker has met all lanes."""
        for lane in MET:
            self.families.add(lane, PLAIN if lane.name == "mail" else lane.lane_id)
        return self

    def add(self, tasks: dict[LaneId, int]) -> None:
        self.waiting.update(tasks)
        self.schedule.wake((lane, RANK) for lane in tasks)

    def assign(self) -> Counter[LaneId]:
        """One plan, carried out; what each lane got."""
        quotas = self.schedule.plan([self.profile], lambda lane: True)
        got, allowed = Counter[LaneId](), dict[LaneId, int]()
        for quota in quotas:
            room = len(quota.slots)
            if self.maximum is not None:
                room = allowed[quota.lane] = min(room, self.maximum - len(self.running))
            got[quota.lane] = min(room, self.waiting[quota.lane])
            self._begin(quota.lane, got[quota.lane])
        read = {(lane, RANK): (number, NOW) for lane, number in got.items() if number}
        limited = None if self.maximum is None else allowed
        self.schedule.learn(quotas, AssignResult([], NOW, refused=False, allowed=limited, read=read))
        return +got

    def _begin(self, lane: LaneId, number: int) -> None:
        self.waiting[lane] -= number
        tokens = [next(self._tokens) for _ in range(number)]
        self.session.held["sync"] = self.session.held.get("sync", 0) + number
        self.session.count(lane, tokens)
        self.running += [(token, lane) for token in tokens]

    def end(self, lane: LaneId | None = None) -> None:
        """A run ends: the oldest, or the oldest of a lane."""
        ended = next(each for each in self.running if lane in (None, each[1]))
        self.running.remove(ended)
        self.session.held["sync"] -= 1
        self.session.count_no_more([ended[0]])
        if self.maximum is not None:
            self.schedule.unpark(EVERY)

    def in_turn(self, number: int) -> list[LaneId]:
        """Whose runs begin, each after the end of the one before."""
        found = list[LaneId]()
        while len(found) < number:
            found += self.assign().elements()
            self.end()
        return found


def test_the_next_slot_goes_to_a_key_that_has_none() -> None:
    board = Board(slots=10).meet()
    board.add({ADA: 1_000_000})
    assert board.assign() == {ADA: 10}
    board.add({BEN: 1})
    board.end()
    assert board.assign() == {BEN: 1}


def test_a_key_whose_runs_never_end_keeps_its_share_and_no_more() -> None:
    board = Board(slots=10).meet()
    board.add({ADA: 1000, BEN: 1000})
    board.assign()
    for _ in range(100):
        board.end(BEN)
        board.assign()
    assert Counter(lane for _, lane in board.running) == {ADA: 5, BEN: 5}


def test_keys_take_turns_where_no_run_lasts() -> None:
    board = Board(slots=1).meet()
    board.add({ADA: 1000, BEN: 1000, CAT: 1000})
    assert Counter(board.in_turn(9)) == {ADA: 3, BEN: 3, CAT: 3}


def test_a_name_has_one_turn_however_many_keys_it_has() -> None:
    board = Board(slots=12).meet()
    board.add({ADA: 100, BEN: 100, CAT: 100, OTHER: 100})
    assert board.assign() == {ADA: 2, BEN: 2, CAT: 2, OTHER: 6}


def test_tasks_of_one_key_have_one_share_whether_or_not_they_are_followed() -> None:
    board = Board(slots=12).meet()
    board.add({PLAIN: 100, FOLLOWED: 100, ADA: 100})
    assert board.assign() == {PLAIN: 3, FOLLOWED: 3, ADA: 6}


def test_lanes_that_had_work_before_they_were_met_share_the_turn() -> None:
    board = Board(slots=12)
    board.add({ADA: 100, BEN: 100, CAT: 100, OTHER: 100})
    board.meet().schedule.regroup(EVERY)
    assert board.assign() == {ADA: 2, BEN: 2, CAT: 2, OTHER: 6}


@pytest.mark.parametrize("pair", [(ADA, BEN), (PLAIN, OTHER)])
def test_lanes_under_one_maximum_take_turns(pair: tuple[LaneId, LaneId]) -> None:
    board = Board(slots=10, maximum=1).meet()
    board.add(dict.fromkeys(pair, 100))
    assert Counter(board.in_turn(10)) == dict.fromkeys(pair, 5)


def test_a_key_that_is_empty_leaves_its_share_to_the_others() -> None:
    board = Board(slots=10).meet()
    board.add({ADA: 100, BEN: 1})
    assert board.assign() + board.assign() == {ADA: 9, BEN: 1}


def test_leases_of_a_session_that_leaves_are_counted_no_more() -> None:
    board = Board(slots=10).meet()
    board.add({ADA: 10})
    board.assign()
    assert board.session.by_lane == {ADA: 10}
    board.session.count_no_more()
    assert board.session.by_lane == {ADA: 0}
