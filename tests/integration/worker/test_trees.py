"""The processes that user code starts: they obey, they speak for nobody, and they end with their child."""

import json

import psutil
import pytest

from tests.integration.worker.conftest import Bench
from tests.support.columns import told_runs
from tests.support.eventually import eventually
from tests.support.scripted_broker import assignment
from tests.support.trees import is_gone

APP = "tests.integration.worker.tree_app:app"


async def tree(bench: Bench) -> list[int]:
    """The processes that the task `tree` has started."""
    return [int(pid) for pid in (await bench.noted("tree ")).split()[1:]]


def all_gone(pids: list[int]) -> None:
    """Wait until they have ended."""
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["terminated", "terminated_async"])
async def test_fork_obeys_a_signal_from_its_first_moment(bench: Bench, name: str) -> None:
    worker = await bench.start(target=APP)
    await worker.printed("worker ready")
    runs = [assignment(name) for _ in range(30)]
    await bench.broker.assign(*runs)
    for run in runs:
        await bench.broker.outcome(run)
        assert bench.result(run.token) == -15


async def test_pool_of_forks_in_a_task_ends(bench: Bench) -> None:
    worker = await bench.start("-t", "2", target=APP)
    await worker.printed("worker ready")
    runs = [assignment("squares", {"count": 3}) for _ in range(20)]
    await bench.broker.assign(*runs)
    for run in runs:
        await bench.complete(run)
        assert bench.result(run.token) == [0, 1, 4]


@pytest.mark.parametrize("name", ["forked", "forked_async"])
@pytest.mark.parametrize(("how", "status"), [("returns", 0), ("raises", 1), ("exits", 7)])
async def test_fork_that_ends_does_not_report_for_its_parent(
    bench: Bench, name: str, how: str, status: int
) -> None:
    worker = await bench.start("-t", "2", target=APP)
    await worker.printed("worker ready")
    run, after = assignment(name, {"how": how}), assignment(name, {"how": how})
    await bench.broker.assign(run)
    await bench.broker.outcome(run)
    assert bench.result(run.token) == ["parent", status]
    await bench.broker.assign(after)
    await bench.broker.outcome(after)
    told = [one for report in bench.broker.reports for one in told_runs(report)]
    assert [one.token for one in told] == [run.token, after.token]
    if how == "raises":
        await worker.printed("ValueError: in the fork")


@pytest.mark.parametrize("end", ["exit", "killed", "cancelled"])
async def test_processes_of_a_dead_child_are_gone_when_its_run_is_told(bench: Bench, end: str) -> None:
    """A timeout would do as a cancel does, but might come before a busy machine has started them all."""
    await bench.ready("--grace", "0.3", target=APP)
    run = assignment("tree", {"end": end})
    await bench.broker.assign(run)
    pids = await tree(bench)
    if end == "killed":
        psutil.Process(pids[0]).parent().kill()  # type: ignore[union-attr]
    elif end == "cancelled":
        await bench.broker.cancel(run)
    await bench.broker.outcome(run)
    assert [pid for pid in pids if not is_gone(pid)] == []


async def test_processes_of_a_child_that_is_replaced_end_with_it(bench: Bench) -> None:
    await bench.ready("--max-tasks-per-child", "1", target=APP)
    run = assignment("tree", {"end": "return"})
    await bench.broker.assign(run)
    await bench.broker.outcome(run)
    all_gone(await tree(bench))


@pytest.mark.parametrize("victim", ["launcher", "stream process", "none"])
async def test_processes_of_user_code_end_with_the_worker(bench: Bench, victim: str) -> None:
    worker = await bench.ready("--drain-timeout", "0.1", "--grace", "0.3", target=APP)
    await bench.broker.assign(assignment("tree", {"end": "never"}))
    pids = await tree(bench)
    if victim == "launcher":
        psutil.Process(worker.process.pid).kill()
    elif victim == "stream process":
        worker.stream_process().kill()
    else:
        worker.stop()
    all_gone(pids)


@pytest.mark.parametrize("how", ["thread", "lifespan"])
async def test_replaced_child_that_does_not_end_is_ended(bench: Bench, how: str) -> None:
    worker = await bench.ready("--max-tasks-per-child", "1", "--grace", "0.3", target=APP)
    pids = []
    for _ in range(3):
        run = assignment("hold_on", {"how": how})
        await bench.broker.assign(run)
        await bench.complete(run)
        pids.append(json.loads(bench.broker.outcomes[run.token].completed.result))
    all_gone(pids)
    assert "did not end by itself" in await worker.printed("did not end by itself")


async def test_ended_orphans_of_a_child_that_lives_are_reaped(bench: Bench) -> None:
    worker = await bench.ready(target=APP)
    run = assignment("orphan")
    await bench.broker.assign(run)
    await bench.broker.outcome(run)
    pid = bench.result(run.token)
    assert isinstance(pid, int)
    eventually(lambda: not psutil.pid_exists(pid))
    assert worker.children()
