"""What one async run does to the event loop that it shares: it fails, the others never notice."""

import pytest

from tests.integration.worker.conftest import Bench
from tests.support.columns import Assignment, ToldRun
from tests.support.scripted_broker import assignment

ODD_APP = "tests.integration.worker.odd_app:app"
ATTACKS = {
    "exit_in_gather": "SystemExit",
    "interrupt_in_group": "KeyboardInterrupt",
    "exit_in_background": "SystemExit",
    "exit_in_callback": "SystemExit",
    "exit_and_return": "SystemExit",
    "stop_loop": "RuntimeError",
    "stop_loop_later": "RuntimeError",
    "stop_loop_by_thread": "RuntimeError",
    "close_loop": "RuntimeError",
    "exit_in_handler": "SystemExit",
    "raise_cancelled": "CancelledError",
}


# uvloop does not say whose callback let an error escape, and tells of a task's end after its run may have
# returned: then the loop goes on, and nobody fails by it.
UNKNOWN_TO_UVLOOP = {"exit_in_callback", "exit_in_handler", "exit_and_return"}
UVLOOP_APP = "tests.integration.worker.odd_uvloop_app:app"


@pytest.mark.parametrize(
    ("target", "names"), [(ODD_APP, set(ATTACKS)), (UVLOOP_APP, set(ATTACKS) - UNKNOWN_TO_UVLOOP)]
)
async def test_run_that_would_end_the_loop_fails_and_the_runs_beside_it_never_notice(
    bench: Bench, target: str, names: set[str]
) -> None:
    worker = await bench.ready(target=target)
    children = {child.pid for child in worker.children()}
    beside = [assignment("linger", {"text": "enough"}) for _ in range(20)]
    await bench.broker.assign(*beside)
    await bench.noted("linger", times=20)
    attacks = {name: assignment(name, timeout_s=60) for name in sorted(names)}
    await bench.broker.assign(*attacks.values())
    told = {name: await bench.broker.outcome(run) for name, run in attacks.items()}
    assert {name: report.failed.error.type for name, report in told.items()} == {
        name: ATTACKS[name] for name in names
    }
    cancelling = assignment("cancel_everybody")  # its own parts among them
    await bench.broker.assign(cancelling)
    assert (await bench.broker.outcome(cancelling)).failed.error.type == "CancelledError"
    for name in sorted(UNKNOWN_TO_UVLOOP - names):
        run = assignment(name, timeout_s=1)
        await bench.broker.assign(run)
        assert (await bench.broker.outcome(run)).WhichOneof("outcome") in ("timed_out", "completed", "failed")
    assert not any(run.token in bench.broker.outcomes for run in beside)
    with bench.journal_path.open("a") as journal:
        journal.write("enough\n")
    for run in beside:
        assert (await bench.broker.outcome(run)).HasField("completed")
    assert bench.journal().count("linger") == 20
    assert {child.pid for child in worker.children()} == children


async def test_loop_is_as_it_was_once_no_run_goes_on(bench: Bench) -> None:
    worker = await bench.ready(target=ODD_APP)
    children = {child.pid for child in worker.children()}
    for name in ("break_factory", "exit_in_handler", "exit_in_gather"):
        run = assignment(name)
        await bench.broker.assign(run)
        assert (await bench.broker.outcome(run)).WhichOneof("outcome") in ("completed", "failed")
        after = assignment("aadd", {"a": 1, "b": 2})
        await bench.broker.assign(after)
        assert (await bench.broker.outcome(after)).HasField("completed")
    gathered = assignment("exit_in_gather")  # needs tasks to be made: fails by itself
    await bench.broker.assign(gathered)
    assert (await bench.broker.outcome(gathered)).failed.error.type == "SystemExit"
    assert {child.pid for child in worker.children()} == children


async def test_part_of_a_run_that_blocks_the_loop_is_ended_with_its_run(bench: Bench) -> None:
    worker = await bench.ready("--grace", "10", target=ODD_APP)
    children = {child.pid for child in worker.children()}
    beside = assignment("linger", {"text": "enough"})
    await bench.broker.assign(beside)
    await bench.noted("linger")
    run = assignment("block_in_background", timeout_s=1)
    await bench.broker.assign(run)
    assert (await bench.broker.outcome(run)).HasField("timed_out")
    await worker.printed("task block_in_background has blocked the event loop")
    with bench.journal_path.open("a") as journal:
        journal.write("enough\n")
    assert (await bench.broker.outcome(beside)).HasField("completed")
    assert {child.pid for child in worker.children()} == children


@pytest.mark.parametrize(
    ("name", "args"), [("deafen_loop", ()), ("break_call_soon", ()), ("break_locks", ("-t", "2"))]
)
async def test_child_whose_own_works_a_run_has_broken_is_replaced(
    bench: Bench, name: str, args: tuple[str, ...]
) -> None:
    await bench.ready(*args, target=ODD_APP)
    broken = assignment(name)
    await bench.broker.assign(broken)
    if name != "deafen_loop":  # it goes on, and is lost with its child
        assert (await bench.broker.outcome(broken)).HasField("completed")
    after = [assignment("aadd", {"a": 1, "b": 2}), assignment("add", {"a": 1, "b": 2})]
    for run in after:  # each is begun by a child that may be broken: nothing hangs
        while not (await given(bench, run)).HasField("completed"):
            del bench.broker.outcomes[run.token]
    if name == "deafen_loop":
        assert (await bench.broker.outcome(broken)).lost.reason == "child exited with status 1"


async def given(bench: Bench, run: Assignment) -> ToldRun:
    """How the run ends, handed out once more."""
    await bench.broker.until(
        lambda: bench.broker.capacity.get("async", 0) > 0 < bench.broker.capacity["sync"]
    )
    await bench.broker.assign(run)
    told = await bench.broker.outcome(run)
    assert told.WhichOneof("outcome") in ("completed", "lost", "released"), told
    return told
