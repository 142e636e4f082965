"""No run waits behind a long one while a slot is free anywhere, nor is it shown as running for long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hyrex import send_many
from hyrex.client.process import close_client
from hyrex.gather import wait_all
from hyrex.status import TaskStatus
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker, StartWorker
from tests.unit.worker import waiting_app as app
from tests.unit.worker.conftest import Bench
from tests.unit.worker.scripted_broker import assignment

APP = "tests.unit.worker.waiting_app:app"
WAIT_S = 60.0
SOON_S = 1.5  # one that waited behind another began 2 s later


@pytest.fixture
def client(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A client of this test's broker."""
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    yield
    close_client()


def short_ones() -> None:
    """Let the workers learn that runs are short, so that they fetch ahead."""
    assert wait_all(send_many(app.short.call() for _ in range(1000)), WAIT_S)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_four_long_runs_after_short_ones_begin_on_four_free_slots(
    start_worker: StartWorker, tmp_path: Path, workers: int
) -> None:
    for _ in range(workers):
        start_worker(APP, "-p", str(4 // workers))
    short_ones()
    handles = [app.meet.send(str(tmp_path), 4) for _ in range(4)]
    came = sorted(handle.result(WAIT_S) for handle in handles)
    assert came[-1] - came[0] < SOON_S


@pytest.mark.usefixtures("client")
def test_what_waits_behind_a_long_run_is_queued_again_while_that_one_runs(start_worker: StartWorker) -> None:
    start_worker(APP, "-p", "1")
    short_ones()
    handles = [app.last.send(1.9) for _ in range(3)]

    def states() -> list[str]:
        for handle in handles:
            handle.refresh()
        return sorted(str(handle.status) for handle in handles)

    def told() -> list[str]:
        found = states()
        return found if TaskStatus.COMPLETED in found or found.count(TaskStatus.QUEUED) == 2 else []

    assert eventually(told) == [TaskStatus.QUEUED, TaskStatus.QUEUED, TaskStatus.RUNNING]


async def test_worker_says_how_many_leases_it_executes_at_once(bench: Bench) -> None:
    await bench.ready("-p", "2", "--prefetch", "4", "--async-concurrency", "7")
    places = {pool.pool: (pool.maximum, pool.slots) for pool in bench.broker.hellos[0].capacity}
    assert places["async"] == (35, 7)
    assert places["sync"][1] == places["sync"][0] // 5


async def test_run_is_given_back_before_the_long_one_before_it_ends(bench: Bench) -> None:
    await bench.ready("--prefetch", "4")
    long, waiting = assignment("sleep", {"seconds": 1.9}), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(long, waiting)
    assert (await bench.broker.outcome(waiting)).HasField("released")
    assert long.token not in bench.broker.outcomes
