"""What is read in order is read from a low-water mark on, whatever became of the look below it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId, SessionId, TaskExtras
from hyrex_broker.engine import head_mark
from hyrex_broker.engine.dispatch.lane_schedule import ZERO
from hyrex_broker.storage.assign import AssignStore
from hyrex_broker.storage.marks import DELAYED_HEAD, HEADS, Mark, MarkStore
from hyrex_broker.storage.promote import NextDue, PromoteStore
from hyrex_broker.storage.report import EVER, Overdue, ReportStore
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.stage import new_task


async def _never(*args: object) -> object:
    """A statement that has millions of dead entries to pass."""
    return await asyncio.Event().wait()


@pytest.fixture
def read_from(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The marks from which the promoter has read."""
    marks: list[datetime] = []
    next_due = PromoteStore.next_due

    async def noted(self: PromoteStore, mark: datetime) -> NextDue:
        marks.append(mark)
        return await next_due(self, mark)

    monkeypatch.setattr(PromoteStore, "next_due", noted)
    return marks


async def delayed_by(bench: Bench, ms: int) -> None:
    await bench.submit([new_task(extras=TaskExtras(delay_ms=ms))])


async def test_the_promoter_never_goes_back_to_the_beginning(
    bench: Bench, read_from: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even now and then: the look below the mark is another statement, and nobody waits for it."""
    monkeypatch.setattr(head_mark, "LOOK_BELOW_S", 0.01)
    monkeypatch.setattr(PromoteStore, "below", _never)
    _, link = await bench.worker(capacity=20)
    for count in range(1, 16):
        await delayed_by(bench, 1)
        await link.until_runs(count)
    first = next(place for place, mark in enumerate(read_from) if mark > ZERO)
    assert len(read_from) - first > 15
    assert read_from[first:] == sorted(read_from[first:])


async def test_a_delayed_task_that_was_left_below_the_mark_is_found(
    bench: Bench, read_from: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, link = await bench.worker()
    await delayed_by(bench, 1)
    await link.until_runs(1)
    await delayed_by(bench, 3_600_000)
    await bench.database.execute("update delayed set run_at = now() - interval '1 hour'")
    await bench.engine.promoter.rows.find_below()
    await link.until_runs(2)


async def test_a_new_broker_reads_on_where_the_last_one_was(
    storage_url: str, bench: Bench, read_from: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the beginning it would time out again and again, as long as a transaction is held open."""
    await bench.stop()
    bench.loops.clear()
    await bench.engine.intake._directory.intern([("default", "work")])
    lane = bench.engine.directory.find("default", "work")
    assert lane is not None
    moment = await bench.database.fetchrow("select now() - interval '1 minute' as at")
    assert moment is not None
    mark = moment["at"]
    await MarkStore(bench.database).save([Mark(lane, 5, mark), Mark(HEADS, DELAYED_HEAD, mark)])
    await bench.database.execute(
        "with stored as (insert into task (id, lane, rank, max_retries, digest, payload)"
        " values ($1, $2, 5, 0, 0, '{}'))"
        " insert into ready values ($1, $2, 5, now(), 0, 0, 0, 0, false)",
        new_task().task_id,
        lane,
    )
    monkeypatch.setattr(AssignStore, "lanes_with_work", _timed_out)
    monkeypatch.setattr(AssignStore, "below_marks", _timed_out)
    read_from.clear()
    async with running_engine(storage_url) as after:
        _, link = await after.worker()
        await link.until_runs(1)
        assert after.engine.dispatcher._schedule.pairs(lane, [5])[0][1] >= mark
    assert read_from[0] == mark


async def _timed_out(*args: object) -> object:
    raise StorageUnavailable("too many dead rows", timed_out=True)


async def test_marks_are_kept_once_many_rows_are_dead_behind_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyrex_broker.engine.dispatch.dispatcher._KEEP_AFTER_ROWS", 3)
    monkeypatch.setattr(bench.engine.dispatcher, "reserve_slots", lambda counts: [])
    _, link = await bench.worker(capacity=20)
    store, dispatcher = MarkStore(bench.database), bench.engine.dispatcher
    await bench.submit([new_task(), new_task()])
    await link.until_runs(2)
    await dispatcher._keep_marks()
    assert await store.load(heads=False) == []
    await bench.submit([new_task()])
    await link.until_runs(3)
    await dispatcher._keep_marks()
    assert len(await store.load(heads=False)) == 1


async def test_a_kept_mark_only_rises_and_is_never_in_the_future(bench: Bench) -> None:
    store, lane = MarkStore(bench.database), LaneId(1)
    moment = await bench.database.fetchrow("select now() as at")
    assert moment is not None
    now = moment["at"]
    for at in (now - timedelta(hours=1), now - timedelta(hours=2)):
        await store.save([Mark(lane, 5, at)])
    assert await store.load(heads=False) == [Mark(lane, 5, now - timedelta(hours=1))]
    await store.save([Mark(lane, 5, now + timedelta(days=1))])
    (mark,) = await store.load(heads=False)
    assert mark.at < now + timedelta(minutes=1)


async def test_work_above_the_marks_is_found_while_the_look_for_all_work_takes_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that no notification told of. The look for all work passes dead rows for so long that it may be
    taken only now and then, and finds nothing here."""
    _, link = await bench.worker()
    await bench.submit([new_task()])
    await link.until_runs(1)
    taken = asyncio.Event()

    async def slow(self: AssignStore) -> list[tuple[LaneId, int]]:
        taken.set()
        await asyncio.sleep(0.2)  # makes it patient for four seconds; the dispatcher looks each second
        return []

    monkeypatch.setattr(AssignStore, "lanes_with_work", slow)
    await taken.wait()
    await bench.database.execute(
        "with stored as (insert into task (id, lane, rank, max_retries, digest, payload)"
        " select $1, min(id), 5, 0, 0, '{}' from lane returning id, lane)"
        " insert into ready select id, lane, 5, now(), 0, 0, 0, 0, false from stored",
        new_task().task_id,
    )
    async with asyncio.timeout(60):
        while len(link.runs) < 2:
            link.pushed.clear()
            await link.pushed.wait()


async def test_overdue_runs_are_read_from_where_the_last_look_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look passes the leases of the past otherwise, as many as there were since the vacuum."""
    await bench.worker()
    read_from, overdue = [], ReportStore.overdue

    async def noted(
        self: ReportStore, sessions: Sequence[SessionId], most: int, mark: datetime = EVER
    ) -> tuple[list[Overdue], datetime]:
        read_from.append(mark)
        return await overdue(self, sessions, most, mark)

    monkeypatch.setattr(ReportStore, "overdue", noted)
    for _ in range(3):
        await bench.engine.overdue_runs._end_overdue()
    marks = read_from[-3:]
    assert marks == sorted(marks)
    assert marks[-1] > EVER


async def test_overdue_runs_that_one_look_has_no_room_for_are_left_for_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark stays where it is."""
    monkeypatch.setattr("hyrex_broker.engine.liveness.overdue_runs._MOST", 1)
    _, link = await bench.worker()
    await bench.submit([new_task(timeout_ms=10), new_task(timeout_ms=10)])
    await link.until_runs(2)
    await bench.database.execute(
        "update lease set assigned_at = assigned_at - interval '1 hour',"
        " deadline = deadline - interval '1 hour'"
    )
    for _ in range(2):
        await bench.engine.overdue_runs._end_overdue()
    assert await bench.database.fetch("select from lease") == []
