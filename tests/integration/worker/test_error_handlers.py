"""`on_error`: called for every run that failed or timed out, bounded, never able to change the outcome."""

import pytest

from tests.integration.worker.conftest import Bench
from tests.support.scripted_broker import assignment

ODD_APP = "tests.integration.worker.odd_app:app"


@pytest.mark.parametrize("task", ["handled", "ahandled"])
async def test_handler_hears_of_what_no_function_raised(bench: Bench, task: str) -> None:
    await bench.ready(target=ODD_APP)
    runs = [assignment(task, {"text": text}) for text in ("unstorable", "oversized", "bad")]
    runs.append(assignment(task, {"text": 5}))
    await bench.broker.assign(*runs)
    kinds = [(await bench.broker.outcome(run)).failed.error.type for run in runs]
    assert kinds == ["ResultNotSerializable", "ResultNotSerializable", "ZeroDivisionError", "ArgumentInvalid"]
    assert sorted(bench.journal()) == sorted(f"heard {kind} in {task}" for kind in kinds)


@pytest.mark.parametrize("task", ["handled", "ahandled"])
async def test_handler_hears_of_a_timeout_that_only_a_kill_could_end(bench: Bench, task: str) -> None:
    await bench.ready(target=ODD_APP)
    run = assignment(task, {"text": "stubborn"}, timeout_s=0.3)
    await bench.broker.assign(run)
    told = await bench.broker.outcome(run)
    assert told.timed_out.error.message == "exceeded its timeout of 0.3 s and did not stop when asked"
    assert told.elapsed.ToTimedelta().total_seconds() > 0.3
    assert bench.journal() == ["stubborn", f"heard TaskTimeout in {task}"]


async def test_killed_run_whose_handler_finds_no_child_is_reported_all_the_same(bench: Bench) -> None:
    worker = await bench.ready(target=ODD_APP)
    run = assignment("handled", {"text": "stubborn"}, timeout_s=0.3)
    await bench.broker.assign(run)
    await bench.noted("stubborn")
    worker.stop()
    worker.stop()
    assert (await bench.broker.outcome(run)).WhichOneof("outcome") in ("timed_out", "lost")
    assert await worker.exit_status() == 0


async def test_handler_that_takes_long_or_dies_changes_no_outcome(bench: Bench) -> None:
    worker = await bench.ready("-p", "3", target=ODD_APP)
    names = (
        "fail_and_dwell",
        "fail_and_dwell_for_ever",
        "fail_and_leave",
        "afail_and_dwell",
        "afail_and_block",
    )
    runs = [assignment(name, timeout_s=1) for name in names]
    await bench.broker.assign(*runs)
    await bench.noted("listens", times=len(runs))
    for run in runs:
        told = await bench.broker.outcome(run)
        assert (told.failed.error.type, told.failed.error.message) == ("NonRetryable", "for good")
        assert not told.failed.retryable
        assert told.elapsed.ToTimedelta().total_seconds() < 1
    assert not any("cannot use the app" in line for line in worker.output)


async def test_cancel_during_a_handler_does_not_cut_it_short(bench: Bench) -> None:
    await bench.ready(target=ODD_APP)
    run = assignment("fail_and_dwell")
    await bench.broker.assign(run)
    await bench.noted("listens")
    await bench.broker.cancel(run)
    assert (await bench.broker.outcome(run)).failed.error.type == "NonRetryable"
