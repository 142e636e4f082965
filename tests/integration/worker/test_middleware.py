"""Middleware in a real worker: within the timeout, reached by cancels, and no cause of a false outcome."""

import pytest

from tests.integration.worker.conftest import Bench
from tests.support.scripted_broker import assignment

APP = "tests.integration.worker.around_app:app"
FOREVER_S = 600.0


async def test_runs_handlers_and_processes_that_die_in_one_worker(bench: Bench) -> None:
    await bench.ready(target=APP)
    for name in ("work", "work_later"):
        done, failed = assignment(name), assignment(name, {"fail": True})
        await bench.broker.assign(done)
        assert (await bench.broker.outcome(done)).HasField("completed")
        await bench.broker.assign(failed)
        assert (await bench.broker.outcome(failed)).failed.error.type == "LookupError"
        await bench.noted("after the handler", 1 if name == "work" else 2)
    one = [
        *("work", "saw result done", "work", "saw LookupError"),
        *("before the handler of {}", "handler LookupError of {}", "after the handler"),
    ]
    assert bench.journal() == [line.format(name) for name in ("work", "work_later") for line in one]
    killed = assignment("die")
    await bench.broker.assign(killed)
    assert (await bench.broker.outcome(killed)).HasField("lost")


@pytest.mark.parametrize("name", ["work", "work_later"])
async def test_a_timeout_and_a_cancel_reach_middleware_that_waits_and_no_process_is_killed(
    bench: Bench, name: str
) -> None:
    worker = await bench.ready("--grace", str(FOREVER_S), target=APP)
    children = {child.pid for child in worker.children()}
    overdue = assignment(name, {"wait": "before"}, timeout_s=2.0)  # so long that it waits by then
    await bench.broker.assign(overdue)
    assert (await bench.broker.outcome(overdue)).HasField("timed_out")
    await bench.noted("after the handler")
    cancelled = assignment(name, {"wait": "before"})
    await bench.broker.assign(cancelled)
    await bench.noted("waiting before", 2)
    await bench.broker.cancel(cancelled)
    assert (await bench.broker.outcome(cancelled)).HasField("cancelled")
    assert "work" not in bench.journal()
    errors = ["TaskTimeout", "TaskCancelled"] if name == "work" else ["CancelledError"] * 2
    assert [line for line in bench.journal() if line.startswith("saw")] == [f"saw {kind}" for kind in errors]
    assert {child.pid for child in worker.children()} == children


async def test_a_timeout_after_the_function_has_returned_is_a_timeout_as_for_any_of_its_code(
    bench: Bench,
) -> None:
    await bench.ready("--grace", str(FOREVER_S), target=APP)
    overdue = assignment("work", {"wait": "after"}, timeout_s=1.0)
    await bench.broker.assign(overdue)
    outcome = await bench.broker.outcome(overdue)
    assert outcome.HasField("timed_out")
    assert outcome.timed_out.error.message == "exceeded its timeout of 1 s"
