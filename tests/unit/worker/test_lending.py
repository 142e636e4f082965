"""A sync run that waits for another task lends its slot to it."""

from __future__ import annotations

from tests.unit.worker.conftest import Bench
from tests.unit.worker.scripted_broker import assignment


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
    await bench.ready("--prefetch", "2")
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
