"""How each way to end is told to the broker."""

import re

import pytest

from tests.integration.worker.conftest import Bench
from tests.support.scripted_broker import assignment


async def test_returned_value_is_reported_as_completed(bench: Bench) -> None:
    await bench.ready()
    run = assignment("add", {"a": 1, "b": 2})
    await bench.broker.assign(run)
    told = await bench.broker.outcome(run)
    assert told.WhichOneof("outcome") == "completed"
    assert told.task_id == run.task_id
    assert told.HasField("elapsed")
    assert bench.result(run.token) == 3


async def test_raised_error_is_reported_with_its_traceback_and_delay(bench: Bench) -> None:
    await bench.ready()
    run = assignment("fail", {"text": "no\0luck"}, attempt_number=1)
    await bench.broker.assign(run)
    failed = (await bench.broker.outcome(run)).failed
    assert (failed.error.type, failed.error.message) == ("ValueError", "no\\x00luck")
    assert "bench_app.py" in failed.error.traceback
    assert "hyrex/worker" not in failed.error.traceback
    assert re.fullmatch(r"tests\.integration\.worker\.bench_app:\d+ in \w+", failed.error.place)
    assert failed.retryable
    assert failed.retry_delay.seconds == 20


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("fail_for_good", {}, "NonRetryable"),
        ("fail_with_key", {}, "KeyError"),
        ("unstorable", {}, "ResultNotSerializable"),
        ("add", {"a": "x", "b": 1}, "ArgumentInvalid"),
        ("unheard_of", {}, "UnknownTask"),
    ],
)
async def test_failure_that_no_retry_mends(
    bench: Bench, name: str, arguments: dict[str, object], kind: str
) -> None:
    await bench.ready()
    run = assignment(name, arguments)
    await bench.broker.assign(run)
    failed = (await bench.broker.outcome(run)).failed
    assert failed.error.type == kind
    assert not failed.retryable


@pytest.mark.parametrize(
    ("how", "retryable", "delay_s"),
    [("final", False, 0), ("deep", False, 0), ("later", True, 7), ("plain", True, 3)],
)
async def test_what_a_group_holds_decides_as_it_would_alone(
    bench: Bench, how: str, retryable: bool, delay_s: int
) -> None:
    await bench.ready()
    run = assignment("fail_in_group", {"how": how})
    await bench.broker.assign(run)
    failed = (await bench.broker.outcome(run)).failed
    assert failed.error.type.endswith("ExceptionGroup")
    assert (failed.retryable, failed.retry_delay.seconds) == (retryable, delay_s)


@pytest.mark.parametrize("arguments", [{"a": 1, "b": 1, "c": 1}, {"a": 1}])
async def test_arguments_of_another_version_are_given_back_for_other_workers(
    bench: Bench, arguments: dict[str, object]
) -> None:
    await bench.ready()
    first, later = assignment("add", arguments), assignment("add", arguments, run_number=5, attempt_number=1)
    last = assignment("add", arguments, run_number=16)
    await bench.broker.assign(first, later, last)
    told = await bench.broker.outcome(first)
    assert told.WhichOneof("outcome") == "released"
    assert told.released.retry_delay.ToTimedelta().total_seconds() == 0.25
    assert "they do not fit add here" in told.released.reason
    assert (await bench.broker.outcome(later)).released.retry_delay.seconds == 4
    failed = (await bench.broker.outcome(last)).failed
    assert (failed.error.type, failed.retryable) == ("ArgumentInvalid", False)


async def test_retry_after_sets_the_delay(bench: Bench) -> None:
    await bench.ready()
    run = assignment("fail_later")
    await bench.broker.assign(run)
    failed = (await bench.broker.outcome(run)).failed
    assert failed.retryable
    assert failed.retry_delay.seconds == 42


async def test_system_exit_is_a_failure_like_any_other(bench: Bench) -> None:
    worker = await bench.ready()
    child = worker.children()[0].pid
    run, after = assignment("leave"), assignment("pid")
    await bench.broker.assign(run, after)
    failed = (await bench.broker.outcome(run)).failed
    assert failed.error.type == "SystemExit"
    assert failed.retryable
    await bench.broker.outcome(after)
    assert child in {child.pid for child in worker.children()}


async def test_async_task_completes_and_fails(bench: Bench) -> None:
    await bench.ready()
    good, bad = assignment("asleep", {"seconds": 0}), assignment("afail")
    await bench.broker.assign(good, bad)
    assert (await bench.broker.outcome(good)).HasField("completed")
    assert (await bench.broker.outcome(bad)).failed.error.message == "async"


async def test_task_sees_its_context(bench: Bench) -> None:
    await bench.ready("--name", "the-worker")
    run = assignment("context", timeout_s=7, attempt_number=2)
    await bench.broker.assign(run)
    await bench.broker.outcome(run)
    assert bench.result(run.token) == {
        "task_id": run.task_id,
        "root_id": run.task_id,
        "worker": "the-worker",
        "attempt": "2",
        "timeout": "7.0",
    }


async def test_on_error_hears_of_the_failure_and_its_own_error_changes_nothing(bench: Bench) -> None:
    worker = await bench.ready()
    run = assignment("fail_handled")
    await bench.broker.assign(run)
    assert (await bench.broker.outcome(run)).failed.error.type == "LookupError"
    assert "on_error LookupError fail_handled" in bench.journal()
    await worker.printed("on_error raised")


async def test_lifespan_is_entered_once_in_each_child(bench: Bench) -> None:
    worker = await bench.ready("-p", "2")
    pids = {child.pid for child in worker.children()}
    worker.stop()
    assert await worker.exit_status() == 0
    assert sorted(bench.journal()) == sorted([f"{w} {p}" for p in pids for w in ("enter", "leave")])


async def test_a_run_whose_time_to_begin_is_over_does_not_begin(bench: Bench) -> None:
    """It waited behind another one; the time that was left counts from when the worker read of it."""
    await bench.ready()
    first = assignment("sleep", {"seconds": 0.05})
    late = assignment("write", {"text": "late"}, expires_in_ms=1)
    early = assignment("write", {"text": "early"}, expires_in_ms=3_600_000)
    await bench.broker.assign(first, late, early)
    told = await bench.broker.outcome(late)
    assert told.WhichOneof("outcome") == "expired"
    assert not told.HasField("elapsed")
    assert (await bench.broker.outcome(early)).WhichOneof("outcome") == "completed"
    assert "late" not in bench.journal_path.read_text().split()
