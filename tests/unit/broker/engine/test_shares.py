"""Who asks for little goes ahead of bulk in requests of any size; bulk still fills the large statements."""

from collections.abc import Hashable
from dataclasses import dataclass

import pytest

from hyrex_broker.engine.shares import AHEAD, Shares

MOST = 1000
CALLERS = 40
WINDOW = 8
STATEMENT_S = 0.02
SMALL_STATEMENTS = 4
"""So many small ones end while a large one does."""


@dataclass
class Group:
    """Items of one request."""

    caller: Hashable
    count: int
    size_bytes: int = 0
    has_little: bool = False

    @property
    def cost(self) -> int:
        return self.count


class Senders:
    """Bulk senders that send the next request for each that is answered, and one that sends single tasks."""

    def __init__(self, size: int, statement_s: float = STATEMENT_S) -> None:
        self.now = 0.0
        self.statement_s = statement_s
        self.shares: Shares[Group] = Shares(MOST, 1 << 30, lambda: self.now)
        self.stored_ahead = self.stored = 0
        for caller in range(CALLERS):
            for _ in range(WINDOW):
                self.shares.add(Group(caller, size))

    def answer(self, batch: list[Group]) -> None:
        for group in batch:
            self.shares.ended(group)
            if group.caller != "single":
                self.shares.add(Group(group.caller, group.count))

    def store(self) -> list[list[Group]]:
        """One large statement, and the small ones beside it, each with a single task that has just come."""
        large = self.shares.take()
        small = []
        for _ in range(SMALL_STATEMENTS):
            self.now += self.statement_s / SMALL_STATEMENTS
            self.shares.add(Group("single", 1))
            small.append(self.shares.take_ahead())
            self.answer(small[-1])
        self.answer(large)
        self.stored += sum(group.count for group in large)
        self.stored_ahead += sum(group.count for batch in small for group in batch)
        return small


@pytest.mark.parametrize("size", [1, 4, 16, 50, 64, 500, 1000])
def test_a_single_task_is_in_the_next_small_statement_whatever_frames_bulk_comes_in(size: int) -> None:
    senders = Senders(size)
    for _ in range(100):
        for batch in senders.store():
            assert "single" in [group.caller for group in batch]
            assert sum(group.count for group in batch) <= AHEAD


@pytest.mark.parametrize("statement_s", [0.02, 0.2, 2.0])
@pytest.mark.parametrize("size", [4, 16, 50, 500, 1000])
def test_bulk_does_not_come_in_small_statements(size: int, statement_s: float) -> None:
    """However slow the database is: each of many bulk senders may ask for less than one that sends single
    tasks does."""
    senders = Senders(size, statement_s)
    for _ in range(10):
        senders.store()
    senders.stored = senders.stored_ahead = 0
    for _ in range(50):
        senders.store()
    assert senders.stored_ahead < senders.stored / 20


def beside_bulk() -> Shares[Group]:
    """Shares of which a large statement has taken bulk, and nothing waits."""
    shares: Shares[Group] = Shares(MOST, 1 << 30, lambda: 0.0)
    shares.add(Group("stored now", 100 * MOST))
    shares.take()
    return shares


def test_many_that_ask_for_little_fill_large_statements_too() -> None:
    shares = beside_bulk()
    for caller in range(400):
        shares.add(Group(caller, 1))
    assert len(shares.take_ahead()) == AHEAD
    assert len(shares.take()) == 400 - 2 * AHEAD, "the next small batch is left"
    assert not shares.waits()
    assert len(shares.take_ahead()) == AHEAD


def test_those_behind_a_small_batch_take_no_more_than_half_of_a_large_one_from_bulk() -> None:
    shares = beside_bulk()
    for caller in range(2000):
        shares.add(Group(caller, 1))
    for _ in range(20):
        shares.add(Group("bulk", 100))
    batch = shares.take()
    assert sum(group.count for group in batch if group.caller == "bulk") == MOST // 2


def test_more_than_a_small_batch_does_not_go_ahead_however_little_of_all_it_is() -> None:
    shares: Shares[Group] = Shares(MOST, 1 << 30, lambda: 0.0)
    shares.add(Group("bulk", 100 * AHEAD))
    shares.add(Group("web", AHEAD + 1))
    assert not shares.waits_ahead()
    shares.add(Group("other", AHEAD))
    assert [group.caller for group in shares.take_ahead()] == ["other"]


def test_whoever_is_known_to_have_little_goes_ahead_of_those_of_whom_as_little_is_admitted() -> None:
    """Of bulk in frames of one task no more than two of a caller are admitted: here all look alike."""
    shares: Shares[Group] = Shares(MOST, 1 << 30, lambda: 0.0)
    for caller in range(CALLERS):
        shares.add(Group(caller, 1))
    shares.add(Group("single", 1, has_little=True))
    assert [group.caller for group in shares.take_ahead()] == ["single"]


def test_bulk_gives_way_until_a_moment_after_somebody_with_little_was_here() -> None:
    senders = Senders(16)
    senders.now += 10.0
    assert not senders.shares.gives_way()
    senders.shares.add(Group("single", 1))
    senders.answer(senders.shares.take_ahead())
    senders.now += 0.5
    assert senders.shares.gives_way()
    senders.now += 0.6
    assert not senders.shares.gives_way()


def test_nothing_is_kept_of_callers_that_have_gone() -> None:
    senders = Senders(16)
    taken = senders.shares.take_all()
    assert len(taken) == CALLERS * WINDOW
    assert set(senders.shares.sizes().values()) == {0}


@pytest.mark.parametrize("sizes", [(40, 40), (3,) * 22, (64,), (1,) * 64, (1,) * 65, (100,), (40, 40, 40)])
def test_a_statement_is_begun_only_if_there_is_something_for_it(sizes: tuple[int, ...]) -> None:
    shares = beside_bulk()
    for caller, size in enumerate(sizes):
        shares.add(Group(caller, size))
    assert shares.waits() == bool(shares.take())


def test_bulk_that_finds_no_room_beside_those_that_asked_for_little_is_in_the_next_statement() -> None:
    shares: Shares[Group] = Shares(MOST, 1 << 30, lambda: 0.0)
    for _ in range(3):
        shares.add(Group("bulk", MOST))
    for caller in range(4000):
        shares.add(Group(caller, 1))
    turns = ["bulk" in {group.caller for group in shares.take()} for _ in range(6)]
    assert turns == [False, True, False, True, False, True]


def test_whoever_asks_for_a_little_more_is_not_passed_over_for_ever() -> None:
    shares = beside_bulk()
    shares.add(Group("two", 2))
    for _ in range(2 * AHEAD):
        for _ in range(AHEAD):
            shares.add(Group(object(), 1))
        if "two" in {group.caller for group in shares.take_ahead()}:
            return
    raise AssertionError("passed over")
