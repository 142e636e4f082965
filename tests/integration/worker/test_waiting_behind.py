"""No run waits behind a long one while a slot is free anywhere, nor is it shown as running for long."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from hyrex import send_many
from hyrex.client.process import close_client
from hyrex.gather import wait_all
from hyrex.status import TaskStatus
from hyrex.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from hyrex.v1 import worker_service_pb2 as wire
from tests.hostile.worker import RawWorker
from tests.integration.worker import waiting_app as app
from tests.integration.worker.conftest import Bench
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker, StartWorker
from tests.support.scripted_broker import assignment

APP = "tests.integration.worker.waiting_app:app"
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


@pytest.mark.usefixtures("client")
def test_no_more_is_shown_as_running_than_runs_whatever_may_be_fetched(
    start_worker: StartWorker, broker: RunningBroker
) -> None:
    start_worker(APP, "-p", "1", "--prefetch", "10")
    send_many(app.last.call(0.4) for _ in range(6))
    running, ended = set(), 0
    until = time.monotonic() + WAIT_S
    with grpc.insecure_channel(broker.address) as channel:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        while ended < 6:
            assert time.monotonic() < until, f"{ended} of 6 have ended"
            tasks = stub.ListTasks(task_service_pb2.ListTasksRequest(), timeout=WAIT_S).tasks
            statuses = [task.status for task in tasks]
            running.add(statuses.count(task_pb2.TASK_STATUS_RUNNING))
            ended = statuses.count(task_pb2.TASK_STATUS_COMPLETED)
    assert running == {0, 1}


@pytest.mark.usefixtures("client")
def test_leases_beyond_the_slots_that_a_worker_says_are_listed_as_fetched(broker: RunningBroker) -> None:
    def listed() -> tuple[int, int, int]:
        (worker,) = admin.ListWorkers(admin_service_pb2.ListWorkersRequest()).workers
        return worker.running, worker.fetched, worker.slots

    send_many(app.last.call(0.0) for _ in range(11))
    with grpc.insecure_channel(broker.address) as channel:
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        worker = RawWorker(channel, **serving("waiting", wire.PoolCapacity(maximum=11, slots=1)))
        worker.welcome()
        eventually(lambda: listed() == (1, 10, 1))
        worker.tell(wire.PoolCapacity(maximum=11, slots=3))
        assert listed() == (3, 8, 3)
        worker.tell(wire.PoolCapacity(maximum=0))  # it pauses, and runs what it has
        assert listed() == (3, 8, 3)
        worker.tell(wire.PoolCapacity(maximum=11))  # as other clients, who fetch nothing ahead
        assert listed() == (11, 0, 0)
        worker.close()


def serving(queue: str, capacity: wire.PoolCapacity) -> dict[str, Any]:
    """What a Hello says to be given `last` of a queue."""
    return {
        "queue_patterns": [queue],
        "tasks": [wire.TaskDefinition(name="last", queue=queue)],
        "capacity": [capacity],
    }


async def test_worker_says_how_many_leases_it_executes_at_once(bench: Bench) -> None:
    await bench.ready("-p", "2", "--prefetch", "4", "--async-concurrency", "7")
    places = {pool.pool: (pool.maximum, pool.slots) for pool in bench.broker.hellos[0].capacity}
    assert places["async"] == (7, 7)
    runs = [assignment("add", {"a": 1, "b": 1}) for _ in range(100)]
    await bench.broker.assign(*runs)
    await bench.broker.until(lambda: bench.broker.capacity["sync"] == 2 * (1 + 4))
    assert bench.broker.slots["sync"] == 2


async def test_run_is_given_back_before_the_long_one_before_it_ends(bench: Bench) -> None:
    await bench.fetching("--prefetch", "4")
    long, waiting = assignment("sleep", {"seconds": 1.9}), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(long, waiting)
    assert (await bench.broker.outcome(waiting)).HasField("released")
    assert long.token not in bench.broker.outcomes
