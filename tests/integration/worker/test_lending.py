"""A sync run that waits for another task lends its slot to it."""

import asyncio
import os

import pytest

from hyrex.worker.pool import slot_lending
from hyrex.worker.pool.child_process import ChildEvents, ChildPlan, ChildProcess
from hyrex.worker.pool.slot_lending import AsyncLending
from hyrex.worker.shared.memory import create_fd
from tests.integration.worker.conftest import Bench
from tests.support.scripted_broker import assignment


async def test_awaited_task_runs_although_every_slot_waits(bench: Bench) -> None:
    await bench.ready()
    parent, child = assignment("wait_for", {"text": "go"}), assignment("write", {"text": "go"})
    await bench.broker.assign(parent)
    await bench.noted("waits")
    await bench.broker.until(lambda: bench.broker.capacity["sync"] >= 2)
    await bench.broker.assign(child)
    assert (await bench.broker.outcome(child)).HasField("completed")
    assert (await bench.broker.outcome(parent)).HasField("completed")


async def test_run_that_was_prefetched_behind_a_wait_moves_to_the_substitute(bench: Bench) -> None:
    await bench.fetching("--prefetch", "2")
    parent, child = assignment("wait_for", {"text": "go"}), assignment("write", {"text": "go"})
    await bench.broker.assign(parent, child)
    await bench.complete(child)
    assert (await bench.broker.outcome(parent)).HasField("completed")


async def test_wait_that_ends_before_it_was_allowed_lends_no_slot_for_ever(bench: Bench) -> None:
    worker = await bench.ready()
    stream_process = worker.stream_process()
    await bench.broker.assign(assignment("wait_later", {"seconds": 0.5}, timeout_s=1))
    await bench.noted("waits later")
    stream_process.suspend()  # it answers nobody until the run's time is up
    await bench.noted("time is up")
    stream_process.resume()
    await bench.broker.until(lambda: bench.broker.outcomes)
    parent, child = assignment("wait_for", {"text": "go"}), assignment("write", {"text": "go"})
    await bench.broker.assign(parent)
    await bench.noted("waits")
    await bench.broker.until(
        lambda: bench.broker.capacity["sync"] >= 2 or parent.token in bench.broker.outcomes
    )
    await bench.broker.assign(child)
    assert (await bench.broker.outcome(parent)).HasField("completed")


async def test_wait_that_could_never_end_is_refused_with_both_numbers(bench: Bench) -> None:
    await bench.ready()
    first, second = assignment("wait_for", {"text": "go"}), assignment("wait_for", {"text": "go"})
    await bench.broker.assign(first)
    await bench.noted("waits")
    await bench.broker.until(lambda: bench.broker.capacity["sync"] >= 2)
    await bench.broker.assign(second)
    error = (await bench.broker.outcome(second)).failed.error
    assert error.type == "WouldDeadlock"
    assert "it has 1 slots and starts 1 substitutes at most" in error.message
    after = assignment("write", {"text": "go"})
    await bench.broker.assign(after)
    assert (await bench.broker.outcome(first)).HasField("completed")


async def test_await_that_is_one_too_many_is_refused_with_the_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a child would hold as many as are sent to it. It has a slot for each that it was allowed."""
    monkeypatch.setattr(slot_lending, "MOST_AWAITING", 3)
    trust = create_fd(8)
    plan = ChildPlan("tests.integration.worker.bench_app:app", "worker", trust, most_slots=10, broker_url="")
    died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    child = ChildProcess(plan, ChildEvents(lambda *_: None, lambda *_: died.set_result(None)))
    try:
        lending = AsyncLending()
        assert [lending.ask(child, request) for request in (1, 2, 3)] == ["", "", ""]
        assert child.slots == 3
        assert lending.ask(child, 4).startswith("3 runs of this process await other tasks already")
        assert child.slots == 3
        lending.resume(child, 4)  # what the refused one says when it ends
        lending.resume(child, 2)
        assert lending.ask(child, 5) == ""
        assert child.slots == 3
    finally:
        child.kill()
        await died
        os.close(trust)
