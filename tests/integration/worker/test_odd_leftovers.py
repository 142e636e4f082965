"""What a run leaves behind in its process is not there for the next one."""

import asyncio

import pytest

from tests.integration.worker.conftest import Bench
from tests.support.columns import Assignment
from tests.support.scripted_broker import assignment

ODD_APP = "tests.integration.worker.odd_app:app"
DISTURBANCES = (
    *("directory", "stdout", "stderr", "redirected", "recursion", "signals", "alarm"),
    *("deadly alarm", "profile", "blocked", "children", "files", "collector"),
    *("locale", "sockets", "digits"),
)


async def result(bench: Bench, run: Assignment) -> object:
    """What the run returns."""
    await bench.broker.assign(run)
    await bench.complete(run)
    return bench.result(run.token)


@pytest.mark.parametrize(
    ("task", "threads"), [("leave_variables", 1), ("leave_variables", 3), ("aleave_variables", 1)]
)
async def test_variables_of_one_run_are_not_seen_by_the_next(bench: Bench, task: str, threads: int) -> None:
    await bench.ready("-t", str(threads), target=ODD_APP)
    for _ in range(threads + 2):
        assert await result(bench, assignment(task)) == ["nothing", 40, "entered"]


async def test_what_a_run_did_to_its_process_is_put_back(bench: Bench) -> None:
    worker = await bench.ready(target=ODD_APP)
    children = {child.pid for child in worker.children()}
    before = await result(bench, assignment("look"))
    for how in DISTURBANCES:
        await result(bench, assignment("disturb", {"how": how}))
        assert await result(bench, assignment("look")) == before, how
    assert {child.pid for child in worker.children()} == children
    async with asyncio.timeout(60):  # the pipe may be read after the outcome
        while sum("can still print" in line for line in worker.output) < 1 + len(DISTURBANCES):
            await asyncio.sleep(0.01)
