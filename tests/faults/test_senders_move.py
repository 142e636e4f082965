"""With two brokers in the list and one of them failing, senders, waiters and commands use the other."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil
import pytest

from hyrex.client.process import close_client
from hyrex.transport import connection
from tests.chaos.proxy import Proxy
from tests.faults import app
from tests.faults.field import PATIENCE_S, Field, stop
from tests.support.process import environment
from tests.support.processes import RunningBroker

HYREX = (sys.executable, "-m", "hyrex.cli")
SOON_S = 12.0
"""A client moves within three seconds; a busy machine takes its time. Those that did not took a minute."""


@pytest.fixture
def by_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the list is tried first."""
    monkeypatch.setattr(connection, "spread", list, raising=False)


@pytest.fixture
def healthy(field: Field) -> RunningBroker:
    return field.broker()


def broker_behind_a_cable(field: Field) -> tuple[RunningBroker, Proxy]:
    """A broker, and the cable between it and its database."""
    cable = field.proxy_to(field.database_url)
    location = urlsplit(field.database_url)
    through = location._replace(netloc=f"{location.netloc.rpartition('@')[0]}@{cable.address}").geturl()
    return field.processes.broker(through, "--lease-duration", "2"), cable


@pytest.mark.parametrize("before", [True, False], ids=["a client that was there", "a new client"])
def test_sends_leave_a_broker_that_lost_its_database(
    field: Field, healthy: RunningBroker, by_order: None, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    failing, cable = broker_behind_a_cable(field)
    monkeypatch.setenv("HYREX_BROKER_URL", f"{failing.url},{healthy.url}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", str(SOON_S))
    if before:
        app.once.send(1)
    cable.silence()
    began = time.monotonic()
    assert app.once.send(2).status == "queued"
    assert time.monotonic() - began < SOON_S
    for number in range(20):  # none of these has to find that out again
        app.once.send(number)
    assert time.monotonic() - began < 2 * SOON_S


def test_sends_reads_and_waits_leave_a_broker_that_is_stopped(
    field: Field, healthy: RunningBroker, by_order: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = field.broker()
    field.worker(healthy.url)
    monkeypatch.setenv("HYREX_BROKER_URL", f"{frozen.url},{healthy.url}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", str(SOON_S))
    handle = app.hold.send(0.5)
    with ThreadPoolExecutor(1) as pool:
        field.begun(handle)
        waiting = pool.submit(handle.result, 60)
        go_on = stop([psutil.Process(frozen.process.pid)])
        try:
            began = time.monotonic()
            later = app.once.send(1)
            later.refresh()
            assert time.monotonic() - began < SOON_S
            assert waiting.result(60) == 0.5
            assert later.result(PATIENCE_S) == 1
            close_client()  # as a new process would find them
            began = time.monotonic()
            app.once.send(2)
            assert time.monotonic() - began < SOON_S
        finally:
            go_on()


@pytest.mark.parametrize("how", ["dead", "stopped", "without its database"])
def test_commands_use_a_broker_that_serves(field: Field, healthy: RunningBroker, how: str) -> None:
    other, cable = broker_behind_a_cable(field)
    go_on = cable.heal
    if how == "dead":
        other.process.kill()
    elif how == "stopped":
        go_on = stop([psutil.Process(other.process.pid)])
    else:
        cable.silence()
    try:
        env = environment({"HYREX_BROKER_URL": f"{other.url},{healthy.url}"})
        began = time.monotonic()
        for _ in range(3):  # each begins with either of them
            command = [*HYREX, "queue", "list", "--json"]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr
        assert time.monotonic() - began < 3 * SOON_S
    finally:
        go_on()
