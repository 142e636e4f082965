"""A broker as a process: it says when it is ready, stops when asked, and says clearly why it cannot start."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc
from hyrex_broker.embedded import EmbeddedPostgres
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.processes import Processes, RunningBroker, StartBroker
from tests.support.trees import is_gone

BROKER = [sys.executable, "-m", "hyrex_broker"]


def failing(processes: Processes, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a broker that cannot start; its exit status and the one line it says."""
    process = processes.start("broker", *BROKER, *arguments, env=env)
    status = process.wait()
    said = [line for line in process.output.splitlines() if line.startswith("broker: ")]
    assert "Traceback" not in process.output
    assert len(said) == 1
    return status, said[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_broker_stops_when_asked(broker: RunningBroker, number: int) -> None:
    broker.process.signal(number)
    assert broker.process.wait(60) == 0
    assert "Traceback" not in broker.process.output


async def test_a_hangup_ends_no_broker_that_has_no_terminal(broker: RunningBroker) -> None:
    broker.process.signal(signal.SIGHUP)
    async with grpc.aio.insecure_channel(broker.address) as channel:
        request = health_pb2.HealthCheckRequest()
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert broker.process.terminate(20) == 0


def test_a_terminal_that_goes_away_stops_its_broker(processes: Processes, database_url: str) -> None:
    ours, theirs = os.openpty()
    command = [*BROKER, "--listen", "127.0.0.1:0", "--database-url", database_url]
    before = signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # under nohup it is ignored, and a child inherits that
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True) as broker:
        signal.signal(signal.SIGHUP, before)
        try:
            assert broker.stdout is not None
            assert "broker ready" in broker.stdout.readline()
            broker.send_signal(signal.SIGHUP)
            assert broker.wait(60) == 0
        finally:
            broker.kill()
    os.close(ours)
    os.close(theirs)


def test_an_unreachable_postgres_is_named(processes: Processes) -> None:
    port = free_port()
    status, line = failing(processes, "--database-url", f"postgresql://127.0.0.1:{port}/hyrex")
    assert status == 3
    assert f"127.0.0.1:{port}: connection refused" in line
    assert "HYREX_DATABASE_URL" in line


def test_an_absent_database_and_a_wrong_password_are_told_apart(
    processes: Processes, empty_database_url: str
) -> None:
    place = urlsplit(empty_database_url)
    status, line = failing(processes, "--database-url", place._replace(path="/absent").geturl())
    assert (status, 'database "absent" does not exist' in line) == (3, True)
    if place.password:
        wrong = place._replace(netloc=f"{place.username}:wrong@{place.hostname}:{place.port}")
        status, line = failing(processes, "--database-url", wrong.geturl())
        assert (status, "refused the login" in line, "wrong" in line) == (3, True, False)


def test_a_schema_of_a_later_version_is_refused(processes: Processes, database_url: str) -> None:
    import asyncio

    from tests.integration.service.seeding import Seed

    async def come_from_the_future() -> None:
        async with Seed.connected(database_url) as seed:
            await seed.execute(
                "insert into schema_version (number, name, serves_from) values (9999, 'future', 9999)"
            )

    asyncio.run(come_from_the_future())
    status, line = failing(processes, "--database-url", database_url, "--listen", "127.0.0.1:0")
    assert (status, "schema 9999" in line) == (4, True)


def test_a_port_in_use_is_named(processes: Processes, broker: RunningBroker, database_url: str) -> None:
    status, line = failing(processes, "--listen", broker.address, env={"HYREX_DATABASE_URL": database_url})
    assert (status, f"cannot listen on {broker.address}" in line) == (5, True)


def test_a_bad_configuration_is_named(processes: Processes) -> None:
    status, line = failing(processes, "--listen", "nowhere")
    assert (status, "no database is named" in line) == (2, True)


async def test_a_drain_call_stops_the_broker(start_broker: StartBroker) -> None:
    broker = start_broker("--token", "secret")
    async with grpc.aio.insecure_channel(broker.address) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        request = admin_service_pb2.DrainBrokerRequest()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.DrainBroker(request, timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await stub.DrainBroker(request, metadata=(("authorization", "Bearer secret"),), timeout=60)
    assert broker.process.wait(60) == 0


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 1"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(),
        check=True,
        capture_output=True,
    )
    return certificate, key


async def test_tls_is_served_where_a_certificate_is_given(
    start_broker: StartBroker, certified: tuple[Path, Path]
) -> None:
    certificate, key = certified
    broker = start_broker("--tls-cert", str(certificate), "--tls-key", str(key))
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    async with grpc.aio.secure_channel(broker.address, credentials) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def two_brokers(processes: Processes, database_url: str, *prefix: str) -> tuple[Process, str]:
    """Two brokers on one port, ready; their parent, and what each of them says when it is ready."""
    port = free_port()
    parent = processes.start(
        "brokers",
        *prefix,
        *BROKER,
        *("--listen", f"127.0.0.1:{port}", "--processes", "2"),
        env={"HYREX_DATABASE_URL": database_url},
    )
    ready = f"broker ready: listening on 127.0.0.1:{port}"
    parent.wait_for(ready, times=2)
    return parent, ready


def test_several_processes_share_a_port_and_end_together(processes: Processes, database_url: str) -> None:
    parent, ready = two_brokers(processes, database_url)
    children = psutil.Process(parent.pid).children()
    children[0].kill()
    parent.wait_for(ready, times=3)
    children = psutil.Process(parent.pid).children()
    assert parent.terminate() == 0
    assert all(is_gone(child.pid) for child in children)


def test_a_process_that_dies_while_postgres_is_away_is_started_again_until_it_lives(
    processes: Processes, private_postgres: EmbeddedPostgres
) -> None:
    parent, ready = two_brokers(processes, private_postgres.url)
    private_postgres.kill()
    psutil.Process(parent.pid).children()[0].kill()
    parent.wait_for("broker: cannot reach Postgres", times=2)
    private_postgres.start()
    parent.wait_for(ready, times=3)
    assert parent.terminate() == 0


def test_several_processes_outlive_the_end_of_a_child_that_is_not_theirs(
    processes: Processes, database_url: str
) -> None:
    # What a container's shell does; as PID 1 any orphan comes to the parent in the same way.
    parent, ready = two_brokers(processes, database_url, "sh", "-c", 'sleep 0.01 & exec "$0" "$@"')
    brokers = [child for child in psutil.Process(parent.pid).children() if "hyrex_broker" in child.cmdline()]
    eventually(lambda: psutil.Process(parent.pid).children() == brokers)  # the other one has been reaped
    brokers[0].kill()
    parent.wait_for(ready, times=3)
    assert brokers[1].is_running()
    assert parent.terminate() == 0


def test_brokers_of_a_killed_parent_stop_by_themselves(processes: Processes, database_url: str) -> None:
    parent, _ = two_brokers(processes, database_url)
    brokers = psutil.Process(parent.pid).children()
    assert len(brokers) == 2
    parent.kill()
    for broker in brokers:
        eventually(lambda pid=broker.pid: is_gone(pid))  # type: ignore[misc]
