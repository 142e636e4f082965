"""Who gets which run: no run waits behind another while a slot is free."""

import asyncio
import time
from dataclasses import replace

import pytest

from hyrex.worker.stream.capacity import Announcements, Places
from tests.integration.worker.bench_app import hy
from tests.integration.worker.conftest import Bench
from tests.support.columns import Assignment
from tests.support.scripted_broker import assignment


async def test_ready_line_says_what_the_worker_is(bench: Bench) -> None:
    worker = await bench.start("-p", "2", "-q", "emails", "-q", "img-*", "--name", "w1")
    line = await worker.printed("worker ready")
    assert line == f"worker ready: w1, {len(hy.tasks)} tasks, queues emails,img-*, slots 102"
    hello = bench.broker.hellos[0]
    assert (hello.worker_name, list(hello.queue_patterns)) == ("w1", ["emails", "img-*"])
    pools = {task.name: task.pool for task in hello.tasks}
    assert (pools["add"], pools["asleep"]) == ("sync", "async")


@pytest.mark.alone
async def test_slots_run_at_the_same_time(bench: Bench) -> None:
    await bench.ready("-p", "2", "-t", "2")
    runs = [assignment("sleep", {"seconds": 0.5}) for _ in range(4)]
    began = time.monotonic()
    await bench.broker.assign(*runs)
    for run in runs:
        await bench.broker.outcome(run)
    assert time.monotonic() - began < 0.95


@pytest.mark.alone
async def test_async_runs_share_one_child(bench: Bench) -> None:
    await bench.ready()
    runs = [assignment("asleep", {"seconds": 0.5}) for _ in range(100)]
    began = time.monotonic()
    await bench.broker.assign(*runs)
    for run in runs:
        await bench.broker.outcome(run)
    assert time.monotonic() - began < 2
    assert len({line for line in bench.journal() if line.startswith("asleep")}) == 1


@pytest.mark.alone
async def test_run_behind_a_long_one_moves_to_the_slot_that_becomes_free(bench: Bench) -> None:
    await bench.fetching("-p", "2", "--prefetch", "4")
    long = assignment("sleep", {"seconds": 600})
    short = [assignment("sleep", {"seconds": 0.1}) for _ in range(5)]
    await overtaken(bench, long, short)


async def overtaken(bench: Bench, long: Assignment, short: list[Assignment]) -> None:
    """Assign them together: the short ones do not wait for the long one."""
    await bench.broker.assign(long, *short)
    for run in short:
        assert (await bench.broker.outcome(run)).HasField("completed")


async def swift(bench: Bench) -> None:
    """Let a worker of two children learn that runs are short."""
    await bench.ready("-p", "2")
    runs = [assignment("pid") for _ in range(300)]
    await bench.broker.assign(*runs)
    for run in runs:
        await bench.broker.outcome(run)


async def test_few_short_runs_wake_one_child(bench: Bench) -> None:
    await swift(bench)
    for _ in range(50):  # now and then one comes too late: the pace is of the last 20 ms
        runs = [assignment("pid") for _ in range(4)]
        await bench.broker.assign(*runs)
        if len({(await bench.broker.outcome(run)).completed.result for run in runs}) == 1:
            return
    raise AssertionError("four runs at a time were always dealt to both children")


async def test_what_few_runs_were_given_moves_on_when_the_first_is_not_short(bench: Bench) -> None:
    await swift(bench)
    long = assignment("sleep", {"seconds": 600})
    short = [assignment("pid") for _ in range(4)]
    await overtaken(bench, long, short)


@pytest.mark.alone
async def test_runs_that_come_later_are_not_taken_for_short(bench: Bench) -> None:
    await swift(bench)
    await asyncio.sleep(0.1)
    runs = [assignment("sleep", {"seconds": 0.5}) for _ in range(2)]
    began = time.monotonic()
    await bench.broker.assign(*runs)
    for run in runs:
        await bench.broker.outcome(run)
    assert time.monotonic() - began < 0.95


async def test_run_that_finds_no_slot_within_a_second_is_released_after_capacity_shrank(
    bench: Bench,
) -> None:
    await bench.fetching("--prefetch", "4")
    long, waiting = assignment("sleep", {"seconds": 30}), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(long, waiting)
    released = (await bench.broker.outcome(waiting)).released
    assert not released.started
    assert bench.broker.capacity["sync"] == 1


async def test_capacity_grows_with_the_pace(bench: Bench) -> None:
    await bench.ready()
    async with asyncio.timeout(60):
        while (
            bench.broker.capacity["sync"] < 500
        ):  # a run during which the machine did other things counts much
            runs = [assignment("add", {"a": 1, "b": 1}) for _ in range(50)]
            await bench.broker.assign(*runs)
            for run in runs:
                await bench.complete(run)
    slow = [assignment("sleep", {"seconds": 1.1}) for _ in range(1)]
    await bench.broker.assign(*slow)
    await bench.broker.until(lambda: bench.broker.capacity["sync"] == 1)


async def test_capacity_that_is_a_little_less_for_long_is_announced(bench: Bench) -> None:
    await bench.fetching("-p", "4", "--prefetch", "3")
    await bench.broker.until(lambda: bench.broker.capacity["sync"] == 16)
    long = assignment("sleep", {"seconds": 30})
    await bench.broker.assign(long)
    await bench.broker.until(lambda: bench.broker.capacity["sync"] == 13)  # nothing waits behind it
    await bench.broker.cancel(long)
    await bench.broker.until(lambda: bench.broker.capacity["sync"] == 16)


async def test_capacity_that_wavers_a_little_is_not_announced_but_one_that_stays_is() -> None:
    announcements = Announcements()
    announcements.want({"sync": Places(60, 4)})
    assert announcements.tell() == {"sync": Places(60, 4)}
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        for wanted in (72, 48, 60):
            announcements.want({"sync": Places(wanted, 4)})
            assert not announcements.due()
        await asyncio.sleep(0.01)
    for wanted in (72, 61):
        began = time.monotonic()
        async with asyncio.timeout(60):
            while not announcements.due():
                announcements.want({"sync": Places(wanted, 4)})
                await asyncio.sleep(0.01)
        assert time.monotonic() - began >= 0.5
        assert announcements.tell() == {"sync": Places(wanted, 4)}


def test_capacity_that_is_a_little_less_is_announced_at_once_where_runs_are_to_be_given_back() -> None:
    announcements = Announcements()
    announcements.want({"sync": Places(110, 100)})
    announcements.tell()
    announcements.want({"sync": Places(100, 100)})
    assert not announcements.due()
    announcements.want({"sync": Places(100, 100)}, pressing=True)
    assert announcements.due()


async def test_child_is_replaced_after_its_share_of_tasks(bench: Bench) -> None:
    await bench.ready("--max-tasks-per-child", "4", "--prefetch", "3")
    pids = []
    for _ in range(10):
        run = assignment("pid")
        await bench.broker.assign(run)
        await bench.complete(run)
        pids.append(bench.result(run.token))
    assert max(pids.count(pid) for pid in pids) <= 4
    assert len(set(pids)) >= 3


async def test_child_over_its_memory_is_replaced(bench: Bench) -> None:
    await bench.ready("--max-memory-per-child", "200")
    before = assignment("pid")
    await bench.broker.assign(before, assignment("grow", {"megabytes": 200}))
    await bench.broker.outcome(before)
    pids = {bench.result(before.token)}
    while len(pids) == 1:
        run = assignment("pid")
        await bench.broker.assign(run)
        await bench.complete(run)
        pids.add(bench.result(run.token))


async def test_blocked_event_loop_is_blamed_on_its_task(bench: Bench) -> None:
    worker = await bench.ready()
    await bench.broker.assign(assignment("aspin", timeout_s=3))
    await worker.printed("task aspin has blocked the event loop")


async def test_thousands_of_runs_cross_in_few_frames(bench: Bench) -> None:
    await bench.ready("-p", "2")
    runs = [assignment("add", {"a": n, "b": 1}) for n in range(2000)]
    await bench.broker.assign(*runs[:1000])
    await bench.broker.assign(*runs[1000:])
    await bench.broker.until(lambda: len(bench.broker.outcomes) == 2000)
    assert len(bench.broker.reports) < 400


async def test_worker_takes_nothing_of_a_frame_whose_columns_do_not_fit(bench: Bench) -> None:
    await bench.ready()
    run = assignment("add", {"a": 1, "b": 1})
    bad = run.group()
    bad.run_numbers[:] = [1, 2]
    await bench.broker.assign_groups(run.group(), bad)
    await bench.broker.until(lambda: len(bench.broker.hellos) > 1)
    assert (bench.broker.hellos[1].received_through, list(bench.broker.hellos[1].held)) == (0, [])
    after = replace(run, token=run.token + 1)
    await bench.broker.assign(after)
    assert (await bench.broker.outcome(after)).HasField("completed")
