"""The worker against a real broker and a real Postgres, while parts of them are killed."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hyrex import send_many
from hyrex.client.process import close_client
from hyrex.handle import TaskHandle
from tests.integration.worker import bench_app as app
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.processes import RunningBroker, StartBroker, StartWorker
from tests.support.trees import is_gone, running, signal_all

WAIT_S = 40.0


class Cluster:
    """One broker that can be killed and started again, one worker."""

    def __init__(self, start_broker: StartBroker, start_worker: StartWorker, journal: Path) -> None:
        self.start_broker = start_broker
        self.start_worker = start_worker
        self.journal_path = journal
        self.port = free_port()
        self.broker = self.broker_again()

    def broker_again(self) -> RunningBroker:
        """Start the broker on its port."""
        self.broker = self.start_broker("--lease-duration", "4", port=self.port)
        return self.broker

    def worker(self, *args: str) -> Process:
        """Start a worker."""
        return self.start_worker(
            "tests.integration.worker.bench_app:app",
            *args,
            broker_url=self.broker.url,
            env={"BENCH_JOURNAL": str(self.journal_path)},
        )

    def noted(self, text: str, times: int = 1) -> list[str]:
        """Wait until tasks have noted something so many times."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            lines = self.journal_path.read_text().splitlines() if self.journal_path.exists() else []
            found = [line for line in lines if line.startswith(text)]
            if len(found) >= times:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not noted {times} times")


@pytest.fixture
def cluster(
    start_broker: StartBroker, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A cluster of one, which this process sends to."""
    made = Cluster(start_broker, start_worker, tmp_path / "journal")
    monkeypatch.setenv("HYREX_BROKER_URL", made.broker.url)
    monkeypatch.setenv("BENCH_JOURNAL", str(made.journal_path))
    yield made
    close_client()


def runs_of(handle: TaskHandle[Any]) -> list[str]:
    """How each run of a finished task ended."""
    handle.refresh()
    return [str(run.status) for run in handle.task_runs]


def part(worker: Process, module: str) -> psutil.Process:
    """A process of the worker's, by the module it runs."""
    return eventually(lambda: running(worker.pid, module))[0]


def test_killed_broker_costs_no_execution(cluster: Cluster) -> None:
    cluster.worker("-p", "1")
    handle = app.sleep.send(2.0)
    cluster.noted("sleep")
    cluster.broker.process.kill()
    time.sleep(0.3)  # longer than a stream needs to notice
    cluster.broker_again()
    assert handle.wait(WAIT_S)
    assert runs_of(handle) == ["completed"]
    assert len(cluster.noted("sleep")) == 1


def test_runs_of_a_killed_stream_process_run_again_within_moments(cluster: Cluster) -> None:
    began = time.monotonic()
    worker = cluster.worker("-p", "1")
    start_s = time.monotonic() - began
    handle = app.sleep.send(1.0)
    cluster.noted("sleep")
    began = time.monotonic()
    part(worker, "hyrex.worker.stream.process").kill()
    cluster.noted("sleep", times=2)
    took_s = time.monotonic() - began
    assert handle.wait(WAIT_S)
    assert runs_of(handle) == ["lost", "completed"]
    assert took_s < 1 + 2 * start_s  # a worker's start, however busy the machine is


def test_task_that_kills_its_process_ends_as_lost(cluster: Cluster) -> None:
    cluster.worker("-p", "1")
    beside = [app.add.send(n, 1) for n in range(20)]
    handle = app.die.with_config(max_retries=0).send("exit")
    for one in beside:
        assert one.wait(WAIT_S)
    handle.refresh()
    assert all(run.status in ("lost", "running") for run in handle.task_runs)


def test_worker_that_sleeps_through_its_lease_does_not_run_on(cluster: Cluster) -> None:
    worker = cluster.worker("-p", "1")
    handle = app.sleep.send(30.0)
    child = int(cluster.noted("sleep")[0].split()[1])
    processes = [part(worker, "hyrex.worker.stream.process"), psutil.Process(child)]
    signal_all(processes, signal.SIGSTOP)
    other = cluster.worker("-p", "1")
    cluster.noted("sleep", times=2)
    signal_all(processes, signal.SIGCONT)
    # Its run is asked to stop, or its child is ended: whichever of the two looks first.
    eventually(lambda: is_gone(child) or f"woken {child}" in cluster.journal_path.read_text())
    handle.cancel()
    assert not handle.wait(WAIT_S)
    assert other.running
    # A lease whose receipt had not come when its session expired may never have begun.
    assert runs_of(handle) in (["lost", "cancelled"], ["released", "cancelled"])


def test_drained_worker_leaves_nothing_behind(cluster: Cluster) -> None:
    worker = cluster.worker("-p", "1")
    handles = [app.sleep.send(0.2) for _ in range(10)]
    cluster.noted("sleep")
    family = psutil.Process(worker.pid).children(recursive=True)
    assert worker.terminate() == 0
    assert not [each for each in family if not is_gone(each.pid)]
    cluster.worker("-p", "2")
    for handle in handles:
        assert handle.wait(WAIT_S)
    assert len(cluster.noted("sleep")) == 10
    assert os.getpid() not in {p.pid for p in family}


def test_thousand_tasks_are_each_run_once(cluster: Cluster) -> None:
    cluster.worker("-p", "2")
    handles = send_many([app.write.call(f"n{n}") for n in range(1000)])
    for handle in handles:
        assert handle.wait(WAIT_S)
    assert len(cluster.noted("n", times=1000)) == 1000


def test_cancel_and_timeout_reach_running_code(cluster: Cluster) -> None:
    cluster.worker("-p", "2")
    spinning = app.spin.send()
    timed = app.sleep.with_config(timeout_seconds=0.5).send(30.0)
    cluster.noted("spin")
    spinning.cancel()
    assert not spinning.wait(WAIT_S)
    assert not timed.wait(WAIT_S)
    assert runs_of(spinning) == ["cancelled"]
    assert runs_of(timed) == ["timed_out"]
