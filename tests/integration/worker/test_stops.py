"""Timeouts, cancels and revocations: ask first, then use force."""

import asyncio
import signal

import psutil
import pytest

from hyrex.v1 import worker_service_pb2 as wire
from tests.integration.worker.conftest import Bench
from tests.support.columns import Assignment
from tests.support.eventually import eventually
from tests.support.scripted_broker import assignment


@pytest.mark.parametrize("name", ["spin", "sleep", "sleep_uncaught", "asleep", "ahang", "aspin"])
async def test_timeout_ends_code_that_would_never_end(bench: Bench, name: str) -> None:
    worker = await bench.ready("--grace", "120")  # longer than the test waits
    children = {child.pid for child in worker.children()}
    run = assignment(name, {"seconds": 600} if "sleep" in name else {}, timeout_s=0.3)
    await bench.broker.assign(run)
    told = await bench.broker.outcome(run)
    assert told.WhichOneof("outcome") == "timed_out"
    assert told.timed_out.error.type == "TaskTimeout"
    assert told.timed_out.HasField("retry_delay")
    assert {child.pid for child in worker.children()} == children


async def test_timeout_in_a_second_thread(bench: Bench) -> None:
    await bench.ready("-t", "3")
    runs = [assignment("spin", timeout_s=0.3) for _ in range(3)]
    await bench.broker.assign(*runs)
    for run in runs:
        assert (await bench.broker.outcome(run)).HasField("timed_out")
    after = assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(after)
    await bench.complete(after)


async def test_run_that_ignores_its_timeout_is_killed_with_its_child(bench: Bench) -> None:
    await bench.ready("-t", "2")
    deaf, beside = assignment("stubborn", timeout_s=0.3), assignment("sleep", {"seconds": 30})
    await bench.broker.assign(deaf, beside)
    assert (await bench.broker.outcome(deaf)).HasField("timed_out")
    lost = (await bench.broker.outcome(beside)).lost
    assert lost.reason.startswith("child stopped for task stubborn")
    assert not lost.alone
    after = assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(after)
    await bench.complete(after)


async def test_on_error_hears_of_a_timeout(bench: Bench) -> None:
    await bench.ready()
    run = assignment("spin_handled", timeout_s=0.3)
    await bench.broker.assign(run)
    assert (await bench.broker.outcome(run)).HasField("timed_out")
    assert bench.journal()[-2:] == ["asked", "on_error async"]


@pytest.mark.parametrize("name", ["spin", "sleep", "asleep", "ahang"])
async def test_cancel_stops_a_running_task(bench: Bench, name: str) -> None:
    await bench.ready()
    run = assignment(name, {"seconds": 60} if "sleep" in name else {})
    await bench.broker.assign(run)
    await bench.noted(name)
    await bench.broker.cancel(run, "changed my mind")
    assert (await bench.broker.outcome(run)).cancelled.reason == "changed my mind"


async def test_cancel_of_a_run_that_has_not_started_drops_it(bench: Bench) -> None:
    await bench.fetching("--prefetch", "5")
    first, second = assignment("sleep", {"seconds": 1}), assignment("sleep", {"seconds": 0})
    await bench.broker.assign(first, second)
    await bench.noted("sleep")
    await bench.broker.cancel(second)
    told = await bench.broker.outcome(second)
    assert told.HasField("cancelled")
    assert not told.HasField("elapsed")
    assert (await bench.broker.outcome(first)).HasField("completed")
    assert len(bench.journal()) == 3  # two children entered, one run


async def frozen_child(bench: Bench, behind: Assignment) -> psutil.Process:
    """A child that is suspended within a run while another one waits in it."""
    await bench.fetching("--prefetch", "5")
    await bench.broker.assign(assignment("freeze"), behind)
    child = psutil.Process(int((await bench.noted("freeze")).split()[1]))
    await asyncio.to_thread(eventually, lambda: child.status() == psutil.STATUS_STOPPED)
    return child


async def cancelled(bench: Bench, run: Assignment) -> None:
    """Cancel a run, and wait until the worker has read that: what is said later is done already."""
    await bench.broker.cancel(run, "changed my mind")
    later = assignment("asleep", {"seconds": 0})
    await bench.broker.assign(later)
    await bench.broker.outcome(later)


async def test_cancel_of_a_run_that_waits_in_a_child_holds_when_the_child_dies(bench: Bench) -> None:
    run = assignment("write", {"text": "written"})
    child = await frozen_child(bench, run)
    await cancelled(bench, run)
    child.send_signal(signal.SIGKILL)
    told = await bench.broker.outcome(run)
    assert (told.WhichOneof("outcome"), told.cancelled.reason) == ("cancelled", "changed my mind")
    assert "written" not in bench.journal()


async def test_cancel_of_a_run_that_is_about_to_be_given_back_holds(bench: Bench) -> None:
    run, alone = assignment("write", {"text": "written"}), assignment("add", {"a": 1, "b": 1}, alone=True)
    child = await frozen_child(bench, run)
    await bench.broker.assign(alone)  # its child is to be emptied, so the run behind is asked for
    await cancelled(bench, run)
    child.send_signal(signal.SIGCONT)
    told = await bench.broker.outcome(run)
    assert (told.WhichOneof("outcome"), told.cancelled.reason) == ("cancelled", "changed my mind")
    assert "written" not in bench.journal()


async def test_run_that_completes_although_cancelled_is_completed(bench: Bench) -> None:
    await bench.ready()
    run = assignment("swallow")
    await bench.broker.assign(run)
    await bench.noted("swallow")
    await bench.broker.cancel(run)
    assert (await bench.broker.outcome(run)).HasField("completed")


async def test_cancel_that_is_ignored_kills_the_child_and_is_reported_cancelled(bench: Bench) -> None:
    await bench.ready()
    run = assignment("stubborn")
    await bench.broker.assign(run)
    await bench.noted("stubborn")
    await bench.broker.cancel(run)
    assert (await bench.broker.outcome(run)).HasField("cancelled")
    assert "ignored" in bench.journal()


async def test_heartbeat_repeats_a_lost_cancel(bench: Bench) -> None:
    await bench.ready()
    run = assignment("sleep", {"seconds": 60})
    await bench.broker.assign(run)
    await bench.noted("sleep")
    order = wire.CancelRun(task_id=run.task_id, token=run.token, reason="again")
    await bench.broker.say(wire.WorkResponse(heartbeat_ack=wire.HeartbeatAck(sequence=1, cancels=[order])))
    assert (await bench.broker.outcome(run)).cancelled.reason == "again"


async def test_revoked_run_stops_and_is_not_reported(bench: Bench) -> None:
    await bench.ready()
    run, after = assignment("sleep", {"seconds": 60}), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(run)
    await bench.noted("sleep")
    ref = wire.LeaseRef(task_id=run.task_id, token=run.token)
    await bench.broker.say(wire.WorkResponse(heartbeat_ack=wire.HeartbeatAck(sequence=1, revoked=[ref])))
    await bench.broker.assign(after)
    await bench.broker.outcome(after)
    assert run.token not in bench.broker.outcomes
