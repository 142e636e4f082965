"""Children that die, and the stream process that dies."""

import signal
import time

import psutil
import pytest

from tests.integration.worker.conftest import Bench
from tests.support.scripted_broker import assignment


@pytest.mark.parametrize(
    ("how", "reason"),
    [("exit", "status 9"), ("kill", "signal SIGKILL"), ("segfault", "signal SIGSEGV")],
)
async def test_dead_child_is_told_with_its_reason(bench: Bench, how: str, reason: str) -> None:
    await bench.ready()
    run, after = assignment("die", {"how": how}), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(run, after)
    lost = (await bench.broker.outcome(run)).lost
    assert lost.reason == f"child exited with {reason}"
    assert lost.alone
    await bench.complete(after)


async def test_runs_behind_the_one_that_killed_its_child_are_not_lost(bench: Bench) -> None:
    await bench.fetching("--prefetch", "50")
    poison = assignment("die", {"how": "exit"})
    behind = [assignment("add", {"a": n, "b": 1}) for n in range(50)]
    await bench.broker.assign(poison, *behind)
    for run in behind:
        await bench.complete(run)
    assert bench.broker.outcomes[poison.token].lost.alone


async def test_runs_beside_a_death_are_not_to_blame(bench: Bench) -> None:
    await bench.ready("-t", "2")
    slow = assignment("sleep", {"seconds": 30})
    await bench.broker.assign(slow)
    await bench.noted("sleep")
    poison = assignment("die", {"how": "exit"})
    await bench.broker.assign(poison)
    assert not (await bench.broker.outcome(poison)).lost.alone
    assert not (await bench.broker.outcome(slow)).lost.alone


async def test_run_that_must_be_alone_has_its_child_for_itself(bench: Bench) -> None:
    await bench.ready("-t", "2")
    slow = assignment("sleep", {"seconds": 1})
    await bench.broker.assign(slow)
    await bench.noted("sleep")
    poison, after = assignment("die", {"how": "exit"}, alone=True), assignment("pid")
    await bench.broker.assign(poison)
    assert (await bench.broker.outcome(poison)).lost.alone
    assert bench.broker.outcomes[slow.token].HasField("completed")
    await bench.broker.assign(after)
    await bench.complete(after)


async def test_run_that_must_be_alone_is_given_back_before_the_broker_takes_it_for_overdue(
    bench: Bench,
) -> None:
    await bench.ready("-t", "2")
    await bench.broker.assign(assignment("sleep", {"seconds": 60}))
    await bench.noted("sleep")
    alone = assignment("add", {"a": 1, "b": 1}, alone=True)
    await bench.broker.assign(alone)
    assert not (await bench.broker.outcome(alone)).released.started


async def test_child_reserved_for_a_run_that_is_gone_takes_others(bench: Bench) -> None:
    await bench.ready("-t", "2")
    await bench.broker.assign(assignment("sleep", {"seconds": 60}))
    await bench.noted("sleep")
    alone, after = assignment("add", {"a": 1, "b": 1}, alone=True), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(alone)
    await bench.broker.until(lambda: bench.broker.capacity["sync"] == 1)  # reserved
    await bench.broker.cancel(alone)
    await bench.broker.until(lambda: bench.broker.capacity["sync"] == 2)
    await bench.broker.assign(after)
    assert (await bench.broker.outcome(after)).HasField("completed")


async def test_alone_async_run_has_its_child_for_itself(bench: Bench) -> None:
    await bench.ready()
    slow, alone = assignment("asleep", {"seconds": 5}), assignment("asleep", {"seconds": 0}, alone=True)
    await bench.broker.assign(slow)
    first = await bench.noted("asleep")
    await bench.broker.assign(alone)
    second = await bench.noted("asleep", times=2)
    assert first != second
    await bench.broker.outcome(alone)


@pytest.mark.alone
async def test_killed_stream_process_is_buried_and_its_session_ended_within_two_seconds(
    bench: Bench,
) -> None:
    worker = await bench.ready("-p", "2")
    run = assignment("spin")
    await bench.broker.assign(run)
    child = int((await bench.noted("spin")).split()[1])
    session = bench.broker.session_id
    began = time.monotonic()
    worker.stream_process().send_signal(signal.SIGKILL)
    await bench.broker.until(lambda: bench.broker.ended)
    assert time.monotonic() - began < 2
    assert not psutil.pid_exists(child)
    ended = bench.broker.ended[0]
    assert (ended.session_id, ended.session_secret) == (session, b"secret")
    assert ended.reason == "worker exited with signal SIGKILL"
    await bench.broker.until(lambda: len(bench.broker.hellos) == 2)
    assert not bench.broker.hellos[1].session_id
    after = assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(after)
    await bench.complete(after)
