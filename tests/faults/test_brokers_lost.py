"""Brokers and cables come and go: nothing runs twice, nothing is lost, and limits stay exact."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from hyrex import send_many
from hyrex.client.process import close_client
from tests.chaos.record import digest
from tests.faults import app
from tests.faults.field import LONG_LEASE_S, PATIENCE_S, Field, ends, kill, stop, whole
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.postgres import connect
from tests.support.processes import RunningBroker


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_a_broker_that_comes_back_costs_no_execution(
    field: Field, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    port = free_port()
    broker = field.broker(port=port, lease_s=LONG_LEASE_S)
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    field.worker(broker.url, args=("-p", "2"))
    handles = [app.hold.send(1.5), app.hold_async.send(1.5)]
    for handle in handles:
        field.begun(handle)
    if how == "killed":
        broker.process.kill()
    else:
        assert broker.process.terminate() == 0
    field.broker(port=port, lease_s=LONG_LEASE_S)
    for handle in handles:
        assert handle.wait(PATIENCE_S)
        assert ends(handle) == ["completed"]
        assert len(field.executions(handle)) == 1


def test_another_broker_adopts_the_sessions_of_a_dead_one(
    field: Field, lasting_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    field.worker(lasting_broker.url, f"grpc://127.0.0.1:{port}")
    handle = app.hold.send(1.5)
    field.begun(handle)  # at the only broker there is: a worker begins with any of its list
    other = field.broker(port=port, lease_s=LONG_LEASE_S)
    monkeypatch.setenv("HYREX_BROKER_URL", other.url)
    close_client()
    lasting_broker.process.kill()
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["completed"]
    assert app.once.send(1).wait(PATIENCE_S)


def test_a_stopped_broker_is_left_for_another_before_the_lease_ends(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    frozen, port = field.broker(lease_s=LONG_LEASE_S), free_port()
    monkeypatch.setenv("HYREX_BROKER_URL", frozen.url)
    field.worker(frozen.url, f"grpc://127.0.0.1:{port}")
    handle = app.hold.send(LONG_LEASE_S + 1.0)
    field.begun(handle)
    other = field.broker(port=port, lease_s=LONG_LEASE_S)
    monkeypatch.setenv("HYREX_BROKER_URL", other.url)
    close_client()
    go_on = stop([psutil.Process(frozen.process.pid)])
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["completed"]
    go_on()
    assert len(field.executions(handle)) == 1


def test_a_broker_killed_for_good_leaves_its_dead_workers_to_the_others(
    field: Field, one_broker: RunningBroker
) -> None:
    dying = field.broker()
    lost = field.worker(dying.url)
    handle = app.hold.send(0.5)
    field.begun(handle)
    kill(whole(lost))
    dying.process.kill()
    field.worker(one_broker.url)
    assert handle.wait(PATIENCE_S)
    assert len(field.executions(handle)) == 2


def test_a_broker_leaves_when_told_to_though_its_database_is_silent(field: Field) -> None:
    cable = field.proxy_to(field.database_url)
    location = urlsplit(field.database_url)
    through = location._replace(netloc=f"{location.netloc.rpartition('@')[0]}@{cable.address}").geturl()
    broker = field.processes.broker(through, "--drain-timeout", "1")
    cable.silence()
    time.sleep(0.5)  # its loops are waiting for answers by now
    assert broker.process.terminate(timeout=60) == 0


@pytest.mark.parametrize("how", ["reset", "silent"])
def test_a_cut_stream_costs_no_execution(field: Field, lasting_broker: RunningBroker, how: str) -> None:
    cable, spare = field.proxy_to(lasting_broker.url), field.proxy_to(lasting_broker.url)
    field.worker(f"grpc://{cable.address}", f"grpc://{spare.address}")
    handle = app.hold.send(LONG_LEASE_S + 1.0)
    field.begun(handle)
    (used,) = [each for each in (cable, spare) if each.carries]
    if how == "reset":
        used.reset()
    else:
        used.silence()
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["completed"]
    assert len(field.executions(handle)) == 1


def test_a_worker_behind_a_dead_cable_stops_its_runs_before_they_run_elsewhere(
    field: Field, one_broker: RunningBroker
) -> None:
    """Network partition: the side that cannot renew is silent by the time the other side goes on."""
    cable = field.proxy_to(one_broker.url)
    field.worker(f"grpc://{cable.address}")
    handle = app.hold.send(6.0)
    field.received(handle)
    cable.silence()
    field.worker(one_broker.url)
    second = field.begun(handle, times=2)
    (first, *_) = field.executions(handle)
    assert first.ended < second.began
    cable.heal()
    assert handle.wait(PATIENCE_S)
    assert ends(handle)[0] in ("lost", "released")
    assert ends(handle)[-1] == "completed"
    assert len(field.executions(handle)) == 2


def test_a_limit_holds_across_brokers_while_workers_and_brokers_are_killed(
    field: Field, one_broker: RunningBroker
) -> None:
    port = free_port()
    second = field.broker(port=port)
    workers = [
        field.worker(one_broker.url, args=("-p", "3")),
        field.worker(second.url, one_broker.url, args=("-p", "3")),
    ]
    handles = send_many([app.narrow.call(0.15) for _ in range(40)])
    field.begun(handles[0])
    kill(whole(workers[0])[1:])
    second.process.kill()
    field.broker(port=port)
    for handle in handles:
        assert handle.wait(PATIENCE_S)
    changes = sorted(
        change
        for executions in digest(field.journal.read()).executions.values()
        for each in executions
        if each.how
        for change in ((each.began, 1), (each.ended, -1))
    )
    running, most = 0, 0
    for _, change in changes:
        running += change
        most = max(most, running)
    assert most == app.LIMIT
    eventually(lambda: all(is_free(field, handle) for handle in handles[:1]))


def is_free(field: Field, handle: object) -> bool:
    """No slot of the limit leaked: more of it runs at once."""
    more = send_many([app.narrow.call(0.01) for _ in range(app.LIMIT)])
    return all(each.wait(PATIENCE_S) for each in more)


_FOLLOWS: Final = """
from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and query like '%follow(%'
"""


def test_an_end_that_a_killed_broker_has_not_followed_is_followed_by_the_next(
    field: Field, lasting_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rule 23: killed after the commit of the end, while its follow waits for a lock."""
    port, go = free_port(), tmp_path / "go"
    field.worker(lasting_broker.url, f"grpc://127.0.0.1:{port}")
    first, second = app.alone_until.send(str(go)), app.alone_until.send(str(go))
    field.begun(first)

    async def kill_while_it_follows() -> None:
        connection = await connect(field.database_url)
        try:
            async with asyncio.timeout(PATIENCE_S), connection.transaction():
                await connection.execute("select from hyrex.stripe for update")
                go.touch()
                while not await _count(connection, _FOLLOWS):
                    await asyncio.sleep(0.02)
                lasting_broker.process.kill()
                # Its backends do not notice while they wait: they would go on.
                while await _count(connection, _FOLLOWS):
                    await connection.execute(f"select pg_terminate_backend(pid, 1000) {_FOLLOWS}")
            assert await _count(connection, "from hyrex.blocked") == 1
        finally:
            await connection.close()

    asyncio.run(kill_while_it_follows())
    other = field.broker(port=port, lease_s=LONG_LEASE_S)
    monkeypatch.setenv("HYREX_BROKER_URL", other.url)
    close_client()
    assert second.wait(PATIENCE_S)
    assert ends(first) == ends(second) == ["completed"]


async def _count(connection: Any, these: str) -> int:
    await connection.execute("select pg_stat_clear_snapshot()")
    return int(await connection.fetchval(f"select count(*) {these}"))
