"""A dump made while everything was at work is restored into an empty database, as docs/operating/postgres.md
says: what it holds goes on, and what was sent after it is gone."""

import subprocess
from pathlib import Path

import pytest

from hyrex.errors import TaskNotFound
from hyrex_broker.embedded.account import postgres_account
from hyrex_broker.embedded.binaries import find_binaries
from tests.faults import app
from tests.faults.field import PATIENCE_S, Field, ends

pytestmark = pytest.mark.slow


def programs() -> Path:
    """Where pg_dump and pg_restore of the tests' own Postgres are."""
    return find_binaries(postgres_account()).folder


def test_tasks_of_a_restored_dump_go_on(
    field: Field, empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broker = field.broker()
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    field.worker(broker.url)
    done, running = app.once.send(1), app.hold.send(600.0)
    field.received(running)
    waiting, delayed = app.once.send(2), app.once.with_config(delay=3600).send(3)
    assert done.wait(PATIENCE_S)
    dump = tmp_path / "hyrex.dump"
    subprocess.run(
        [programs() / "pg_dump", "--format=custom", "--schema=hyrex", f"--file={dump}", field.database_url],
        check=True,
        timeout=60,
    )
    after = app.once.send(4)
    field.processes.end()
    subprocess.run(
        [programs() / "pg_restore", "--exit-on-error", f"--dbname={empty_database_url}", dump],
        check=True,
        timeout=60,
    )
    field.database_url = empty_database_url
    broker = field.broker()
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    field.worker(broker.url, args=("-p", "2"))
    field.begun(running, times=2)
    assert ends(running)[0] == "lost"
    assert waiting.wait(PATIENCE_S)
    assert app.once.send(5).wait(PATIENCE_S)
    assert ends(done) == ["completed"]
    delayed.refresh()
    assert delayed.status == "scheduled"
    with pytest.raises(TaskNotFound):
        after.refresh()
