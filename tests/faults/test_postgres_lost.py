"""Postgres is killed, restarted and away: acknowledged tasks stay, and everything goes on by itself."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hyrex import TaskHandle
from hyrex.errors import BrokerUnavailable, SubmitUnknown
from hyrex_broker.embedded import EmbeddedPostgres
from tests.faults import app
from tests.faults.field import PATIENCE_S, Field, ends
from tests.support.eventually import eventually
from tests.support.processes import Processes, RunningBroker

BACK_WITHIN_S = 20.0
"""It takes two or three seconds; a busy machine has its time."""


@pytest.fixture
def field(field: Field, private_postgres: EmbeddedPostgres) -> Field:
    field.database_url = private_postgres.url
    return field


def test_a_killed_postgres_keeps_what_was_acknowledged(
    field: Field, one_broker: RunningBroker, private_postgres: EmbeddedPostgres
) -> None:
    sent: list[TaskHandle[int]] = []
    stopping = threading.Event()

    def send() -> None:
        while not stopping.is_set():
            try:
                sent.append(app.once.send(len(sent)))
            except (BrokerUnavailable, SubmitUnknown):
                continue

    field.worker(one_broker.url, args=("-p", "2"))
    with ThreadPoolExecutor(1) as pool:
        sender = pool.submit(send)
        try:
            for _ in range(2):
                wanted = len(sent) + 20
                private_postgres.kill()
                private_postgres.start()
                eventually(lambda wanted=wanted: sender.done() or len(sent) >= wanted)  # type: ignore[misc]
        finally:
            stopping.set()
        sender.result(PATIENCE_S)
    for handle in sent:
        assert handle.wait(PATIENCE_S)
    for handle in sent:
        assert len(field.executions(handle)) >= 1
    assert one_broker.process.running


def test_a_restart_of_postgres_costs_no_execution(
    field: Field, lasting_broker: RunningBroker, private_postgres: EmbeddedPostgres
) -> None:
    field.worker(lasting_broker.url)
    handle = app.hold.send(2.0)
    field.begun(handle)
    private_postgres.restart()
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["completed"]


def test_after_a_long_absence_the_flow_is_back_and_nobody_paid(
    field: Field,
    one_broker: RunningBroker,
    private_postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten seconds are five leases: runs whose trust ends are stopped, results that are held still count."""
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "1")
    worker = field.worker(one_broker.url, args=("-p", "2"))
    stopped, held = app.hold.send(15.0), app.hold.send(0.8)
    field.begun(stopped)
    field.begun(held)
    private_postgres.kill()
    began = time.monotonic()
    with pytest.raises((BrokerUnavailable, SubmitUnknown)):
        app.once.send(1)
    time.sleep(max(0.0, 10 - (time.monotonic() - began)))
    private_postgres.start()
    back = time.monotonic()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "60")
    assert app.once.send(2).wait(PATIENCE_S)
    assert time.monotonic() - back < BACK_WITHIN_S
    assert held.wait(PATIENCE_S)
    assert ends(held) == ["completed"]
    again = field.begun(stopped, times=2)
    assert again.began > back
    stopped.refresh()
    assert stopped.task_runs[-1].attempt_number == 0
    stopped.cancel()
    assert one_broker.process.running
    assert worker.running


def test_a_broker_started_without_postgres_says_so(processes: Processes, tmp_path: Path) -> None:
    import sys

    url = "postgresql://nobody@127.0.0.1:1/none"
    process = processes.start(
        "broker", sys.executable, "-m", "hyrex_broker", "--database-url", url, "--listen", "127.0.0.1:0"
    )
    assert process.wait() == 3
