"""A run tells how far it is, and whoever looks at its task sees the newest word, at any broker."""

import asyncio
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from hyrex import TaskHandle, get_task
from hyrex.cli.program import program
from hyrex.client.process import close_client
from hyrex.progress import TEXT_BYTES, checked_progress
from hyrex.testing import inline
from tests.integration.observing import app
from tests.support.eventually import eventually
from tests.support.postgres import connect
from tests.support.processes import StartBroker, StartWorker

APP: Final = "tests.integration.observing.app:app"
PATIENCE_S: Final = 60.0


def refreshed(handle: TaskHandle[Any]) -> str:
    """The newest word of its run, as text."""
    handle.refresh()
    return str(handle.progress or "")


async def stored(url: str) -> int:
    """How many words the database has."""
    connection = await connect(url)
    try:
        return int(await connection.fetchval("select count(*) from hyrex.run_progress"))
    finally:
        await connection.close()


def test_the_newest_word_of_a_run_is_seen_at_another_broker_by_watchers_and_in_the_terminal(
    start_broker: StartBroker,
    start_worker: StartWorker,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (start_broker("--lease-duration", "6") for _ in range(2))
    start_worker(APP, "-p", "1", broker_url=first.url)
    monkeypatch.setenv("HYREX_BROKER_URL", second.url)
    release = tmp_path / "go"
    try:
        counting = app.count_to.send(1000, str(release))
        pondering = app.ponder.send(str(release))
        eventually(lambda: refreshed(counting) == "1000 of 1000 page 1000", PATIENCE_S)
        eventually(lambda: refreshed(pondering) == "0.5", PATIENCE_S)
        known = get_task(counting.id)
        assert known.progress == counting.progress == known.task_runs[-1].progress
        assert known.progress is not None
        assert (known.progress.done, known.progress.total) == (1000, 1000)
        told = CliRunner().invoke(program, ["task", "get", str(counting.id)])
        assert "progress: 1000 of 1000 page 1000" in told.output
        release.touch()
        assert counting.wait(PATIENCE_S)
        assert pondering.wait(PATIENCE_S)
        counting.refresh()
        assert counting.progress is None
        assert asyncio.run(stored(database_url)) == 2  # until a broker tidies
    finally:
        close_client()


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [(-1, None, ""), (math.nan, None, ""), (1, math.inf, ""), (1, 2, "x" * 1025), (1, 2, "\0")],
)
def test_what_cannot_be_shown_is_refused_where_it_is_said(
    done: float, total: float | None, text: str
) -> None:
    with pytest.raises(ValueError, match="progress"):
        checked_progress(done, total, text)


@pytest.mark.parametrize(("done", "total"), [("1", None), (True, None), (None, 1), (1, "2")])
def test_numbers_must_be_numbers(done: Any, total: Any) -> None:
    with pytest.raises(TypeError, match="must be a number"):
        checked_progress(done, total, "")


def test_a_text_of_any_characters_within_its_bound_can_be_said() -> None:
    assert checked_progress(1, 2, "é" * (TEXT_BYTES // 2)).text == "é" * (TEXT_BYTES // 2)
    assert checked_progress(1, 2, "\udc80").text == "?"


def test_progress_is_heard_by_nobody_in_an_inline_test(tmp_path: Path) -> None:
    release = tmp_path / "go"
    release.touch()
    with inline():
        handle = app.count_to.send(3, str(release))
    assert handle.result() == 3
    assert handle.progress is None


FORK: Final = """
import os, sys
from hyrex.progress import checked_progress
from hyrex.worker.child.forks import guard_forks
from hyrex.worker.child.run_progress import ProgressTeller

def look_under_a_lock():
    os._exit(3)  # a thread that the fork does not have may hold that lock

guard_forks(lambda: None)
teller = ProgressTeller(print, look_under_a_lock)
if (pid := os.fork()) == 0:
    teller.tell(None, checked_progress(1, 2, ""))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_fork_of_user_code_tells_nothing_and_takes_no_lock() -> None:
    assert subprocess.run([sys.executable, "-c", FORK], timeout=60, check=False).returncode == 0
