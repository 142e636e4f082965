"""What a storm's verdict counts, and what it excuses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from hyrex import KeyBusy
from hyrex.sent import SentTaskHandle
from tests.chaos import app
from tests.chaos.journal import Journal
from tests.chaos.rates import Assign, too_many
from tests.chaos.record import Disturbance, Execution, Record, digest
from tests.chaos.verdict import COMPLETED, LOST, Stored, judge

LEASE_S = 5.0


def narrow(task: str, began: float, ended: float, worker: str = "worker-1", run: int = 0) -> Execution:
    """An execution under a limit of two."""
    return Execution(task, "narrow", run, 1, worker, began, ended, "completed")


def record(*executions: Execution, disturbances: tuple[Disturbance, ...] = ()) -> Record:
    made = Record(disturbances=list(disturbances))
    for each in executions:
        made.executions[each.task].append(each)
    return made


def test_three_at_once_are_over_a_limit_of_two() -> None:
    crowd = record(narrow("a", 0, 4), narrow("b", 1, 4), narrow("c", 2, 4))
    assert judge(crowd, {}, LEASE_S).over_limit == 1


def test_an_execution_counts_until_its_worker_is_stopped_for_longer_than_its_lease() -> None:
    frozen = narrow("a", 0, 9, "worker-0")
    others = (narrow("b", 6, 8), narrow("c", 7, 8))
    stop = Disturbance("worker_stop", "worker-0", 0.1, 8.9)
    assert judge(record(frozen, *others, disturbances=(stop,)), {}, LEASE_S).over_limit == 0
    moment = Disturbance("worker_stop", "worker-0", 6.5, 7.5)
    assert judge(record(frozen, *others, disturbances=(moment,)), {}, LEASE_S).over_limit == 1


def keyed(task: str, key: str, began: float, ended: float, name: str = "one_by_one") -> Execution:
    """An execution under a key's maximum: one of `one_by_one`, three of `some_at_once`."""
    return Execution(task, name, 0, 1, "worker-1", began, ended, "completed", key)


def test_a_key_counts_its_own_executions_alone() -> None:
    others = record(keyed("a", "one-0", 0, 4), keyed("b", "one-1", 1, 4), keyed("c", "one-0", 4, 5))
    assert judge(others, {}, LEASE_S).over_limit == 0
    others.executions["d"].append(keyed("d", "one-1", 3, 5))
    assert judge(others, {}, LEASE_S).over_limit == 1
    some = record(*(keyed(task, "some-0", 0, 4, "some_at_once") for task in "abc"))
    assert judge(some, {}, LEASE_S).over_limit == 0
    some.executions["d"].append(keyed("d", "some-0", 3, 5, "some_at_once"))
    assert judge(some, {}, LEASE_S).over_limit == 1


def test_what_a_key_refused_is_not_stored_and_does_not_hold_the_key_itself() -> None:
    refused = record()
    refused.refused += [("", "b"), ("a", "b")]
    assert judge(refused, {}, LEASE_S).good
    assert not judge(refused, {"a": Stored(live=False, runs=[(0, COMPLETED, True)])}, LEASE_S).good
    refused.refused[:] = [("a", "a")]
    assert not judge(refused, {}, LEASE_S).good


def test_a_refusal_is_written_down_with_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    monkeypatch.setattr(app, "journal", lambda: journal)
    holder = UUID(int=1)

    def refused() -> SentTaskHandle:
        raise KeyBusy("busy", "KEY_BUSY", {"key": "one-0", "holder": str(holder)})

    assert app.send_surely("keyed", refused) is None
    assert digest(journal.read()).refused == [("", str(holder))]


def test_what_a_retry_took_back_may_run_and_end_again() -> None:
    twice = record(narrow("a", 0, 1), narrow("a", 2, 3, run=1))
    ends = [(0, COMPLETED, True), (1, COMPLETED, True)]
    taken_back = {"a": Stored(live=False, runs=ends, reopened=frozenset({0}))}
    assert judge(twice, taken_back, LEASE_S).good
    assert judge(twice, taken_back, LEASE_S).retried == 1
    for other in (frozenset[int](), frozenset({1})):
        found = judge(twice, {"a": Stored(live=False, runs=ends, reopened=other)}, LEASE_S)
        assert found.executed_again_without_loss == 1
        assert found.recorded_twice == (not other)


EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return EPOCH + timedelta(seconds=second)


def over_rate(*assigns: tuple[int, float, float]) -> int:
    """How many of (runs, begun, noted) were too many at two a second and three at once."""
    return len([*too_many([Assign(runs, at(began), at(noted)) for runs, began, noted in assigns], 2, 3)])


def test_no_window_has_more_assigns_than_burst_and_rate() -> None:
    assert over_rate((3, 0, 0), (1, 0.5, 0.5), (1, 1, 1), (3, 9, 9)) == 0
    assert over_rate((4, 0, 0)) == 1
    assert over_rate((3, 0, 0), (1, 0.4, 0.4)) == 1
    assert over_rate((1, 0, 0), (2, 5, 5), (2, 5.4, 5.4), (1, 5.5, 5.5)) == 2


def test_a_window_is_counted_from_the_first_moment_at_which_its_first_assign_may_have_looked() -> None:
    """That is after it began, and after the one before it, which held the lock."""
    assert over_rate((4, 0, 0.5), (1, 0.9, 1)) == 0
    assert over_rate((1, 0, 8), (4, 0, 8.4)) == 1
    assert over_rate((1, 0, 8), (4, 0, 8.5)) == 0


def test_no_window_goes_across_a_moment_at_which_the_clock_was_set_back() -> None:
    assert over_rate((3, 10, 10), (3, 9, 9)) == 0
    assert over_rate((3, 10, 10), (3, 9, 9), (1, 9.1, 9.1)) == 1


def repeated(*disturbances: Disturbance) -> int:
    cut_short = Execution("a", "long", 0, 1, "worker-0", 10.0)
    again = Execution("a", "long", 1, 2, "worker-0", 17.0, 18.0, "completed")
    found = judge(record(cut_short, again, disturbances=disturbances), {}, LEASE_S)
    return found.executed_again_without_loss


def test_a_repetition_needs_an_explanation() -> None:
    assert repeated() == 1
    assert repeated(Disturbance("broker_stop", "broker-0", 8.0, 12.0)) == 1
    assert repeated(Disturbance("postgres_restart", "postgres", 10.5, 10.7)) == 1
    assert repeated(Disturbance("postgres_kill", "postgres", 10.5, 14.5)) == 1
    assert repeated(Disturbance("postgres_kill", "postgres", 10.5, 15.5)) == 0


def test_a_stopped_broker_and_then_no_database_last_together() -> None:
    stop = Disturbance("broker_stop", "broker-0", 7.5, 12.0)
    assert repeated(stop, Disturbance("postgres_kill", "postgres", 10.1, 12.5)) == 0
    assert repeated(stop, Disturbance("postgres_kill", "postgres", 10.1, 10.2)) == 1
    assert repeated(Disturbance("broker_stop", "broker-0", 7.5, 9.9), stop) == 1


def test_an_outage_lasts_until_somebody_is_answered_but_not_for_ever() -> None:
    """The server is there again some time before brokers answer."""
    short = Disturbance("postgres_restart", "postgres", 10.5, 13.5)
    assert repeated(short) == 1
    short.answered = 13.6
    assert repeated(short) == 1
    short.answered = 15.4
    assert repeated(short) == 0
    moment = Disturbance("postgres_restart", "postgres", 10.5, 12.5, answered=16.9)
    assert repeated(moment) == 1


def test_a_journal_tells_when_somebody_was_answered_after_an_outage() -> None:
    sent = {"event": "acknowledged", "task": "a", "kind": "short"}
    found = digest(
        [
            {"event": "disturbed", "at": 1.0, "kind": "postgres_restart", "victim": "postgres"},
            sent | {"at": 1.5},
            {"event": "healed", "at": 2.0, "victim": "postgres"},
            sent | {"at": 3.0},
            sent | {"at": 4.0},
        ]
    )
    assert [each.answered for each in found.disturbances] == [3.0]


def ended_as_lost(times: int, *disturbances: Disturbance) -> tuple[int, int]:
    """How often a task is held for lost, and for given up, that was lost so many times."""
    runs = [Execution("a", "long", run, 1, f"worker-{run}", 10.0 * run) for run in range(times)]
    made = record(*runs, disturbances=disturbances)
    made.acknowledged["a"].add("long")
    known = Stored(live=False, runs=[(run, LOST, run == times - 1) for run in range(times)])
    found = judge(made, {"a": known}, LEASE_S)
    return found.lost, found.given_up


def test_a_task_is_given_up_only_after_more_losses_than_are_redelivered() -> None:
    kills = [Disturbance("worker_kill", f"worker-{run}", 10.0 * run + 1, 10.0 * run + 1) for run in range(7)]
    assert ended_as_lost(7, *kills) == (0, 1)
    assert ended_as_lost(7, *kills[:6]) == (1, 0)
    assert ended_as_lost(3, *kills) == (1, 0)
