"""Debian's PgBouncer before Postgres: sessions work, what is less is refused with the remedy."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import grpc
import pytest

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from hyrex_broker.embedded.account import postgres_account
from hyrex_broker.storage.settings import HOT_SETTINGS
from tests.integration.storage.stage import Stage, make_id
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.processes import Processes, StartBroker

PGBOUNCER: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"
)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can enter and fill, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="hyrex-pgbouncer-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pooled(request: pytest.FixtureRequest, database_url: str, public_folder: Path) -> Iterator[str]:
    """The test's database through a PgBouncer of the mode that the test names."""
    mode: str = request.param
    assert PGBOUNCER is not None
    place = urlsplit(database_url)
    port = free_port()
    users, config = public_folder / "users.txt", public_folder / "pgbouncer.ini"
    users.write_text(f'"{place.username}" "{place.password}"\n')
    config.write_text(
        f"[databases]\n* = host={place.hostname} port={place.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
        f"auth_file = {users}\npool_mode = {mode}\nlogfile = {public_folder / 'log'}\n"
    )
    account = postgres_account().popen_options()
    if account:  # it refuses to run as root, as Postgres does
        users.chmod(0o644)
        config.chmod(0o644)
    process = subprocess.Popen([PGBOUNCER, "-q", str(config)], **account)
    try:
        eventually(lambda: _answers(port))
        yield urlunsplit(place._replace(netloc=f"{place.username}:{place.password}@127.0.0.1:{port}"))
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
async def test_every_setting_holds_behind_it(pooled: str) -> None:
    async with Stage.on(pooled) as stage:
        opened, run = await stage.running()
        assert run.task_id
        for name, value in HOT_SETTINGS.items():
            assert await stage.execute(f"select current_setting('{name}')") == value
        assert await stage.sessions.leases([opened.session_id])


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
def test_a_broker_starts_and_stores_behind_it(pooled: str, start_broker: StartBroker) -> None:
    broker = start_broker(database_url=pooled)
    with grpc.insecure_channel(broker.address) as channel:
        stub: Any = task_service_pb2_grpc.TaskServiceStub(channel)
        task = task_pb2.NewTask(task_id=make_id(), name="work", queue="default", payload=b"{}")
        response = stub.SubmitTasks(task_service_pb2.SubmitTasksRequest(tasks=[task]), timeout=60)
        assert response.results[0].outcome == task_service_pb2.SUBMIT_OUTCOME_STORED
    assert broker.process.terminate(timeout=60) == 0
    assert "Traceback" not in broker.process.output


@pytest.mark.parametrize("pooled", ["transaction", "statement"], indirect=True)
def test_a_broker_refuses_a_pooler_that_gives_it_no_session(pooled: str, processes: Processes) -> None:
    import sys

    process = processes.start(
        "broker", sys.executable, "-m", "hyrex_broker", "--database-url", pooled, "--listen", "127.0.0.1:0"
    )
    assert process.wait() == 4
    assert "pool_mode = session" in process.output
    assert "Traceback" not in process.output
