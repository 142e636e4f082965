"""What one statement stores for schedules: so many tasks and bytes, whatever is due."""

from datetime import UTC, datetime, timedelta

from asyncpg import CheckViolationError, NumericValueOutOfRangeError

from hyrex_broker.domain.errors import InvalidField, StorageUnavailable
from hyrex_broker.domain.model import LaneId
from hyrex_broker.domain.schedules import CatchUp, Cause, DueSchedule
from hyrex_broker.engine.batching import BATCH_BYTES
from hyrex_broker.engine.schedule_parts import MOST_TASKS, Firing, at_once, new_id, parts, refusal
from hyrex_broker.storage.schedule_rows import Move, SlotTask
from hyrex_broker.storage.sqlstates import StatementRefused

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SLOTS = [BEGIN + timedelta(hours=hour) for hour in range(100)]


def firing(size_bytes: int, slots: int = 1) -> Firing:
    due = DueSchedule("s", 0, "q", "t", "@hourly", "UTC", CatchUp.ALL, 0, BEGIN, size_bytes)
    after = SLOTS[-1] + timedelta(hours=1)
    tasks = [SlotTask("s", slot, new_id(slot), LaneId(1), Cause.MISSED) for slot in SLOTS[:slots]]
    return Firing(due, Move("s", 0, BEGIN, after, after), tasks)


def test_a_part_has_no_more_bytes_than_a_batch_of_submits() -> None:
    large = BATCH_BYTES // 2
    found = list(parts([firing(large) for _ in range(5)]))
    assert [len(part) for part in found] == [2, 2, 1]


def test_a_part_has_no_more_tasks_than_a_statement_may_store() -> None:
    found = list(parts([firing(1, 100) for _ in range(7)]))
    assert [len(part) for part in found] == [MOST_TASKS // 100, 2]


def test_a_schedule_with_more_than_a_statement_holds_goes_on_where_it_was_cut() -> None:
    ((cut,),) = parts([firing(BATCH_BYTES // 3, 100)])
    assert [task.slot for task in cut.tasks] == SLOTS[:3]
    assert (cut.move.next_at, cut.move.due_at) == (SLOTS[3], SLOTS[3])
    assert at_once(BATCH_BYTES * 2) == 1


def test_what_is_stored_whole_moves_on_as_it_would() -> None:
    whole = firing(1, 3)
    assert whole.first(3) is whole


def test_a_missing_partition_is_no_fault_of_a_schedule() -> None:
    assert isinstance(refusal("s", StatementRefused(CheckViolationError("no partition"))), StorageUnavailable)
    named = refusal("s", StatementRefused(NumericValueOutOfRangeError("out of range")))
    assert isinstance(named, InvalidField)
    assert "schedule = 's'" in named.message
