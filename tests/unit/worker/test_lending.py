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
