"""The fixtures give a real broker and a real worker, and say why when they cannot."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from hyrex import TaskNotFound, dismiss, dismiss_async, get_task_async, replay, replay_async
from hyrex.errors import HyrexError
from hyrex.testing.live import NOT_INHERITED, LiveHyrex, live_broker
from tests.integration.sdk.live_tasks import divide
from tests.support.eventually import eventually
from tests.support.processes import Processes
from tests.support.trees import is_gone, tree


def test_live_fixture_runs_a_task_on_a_real_worker(hyrex_live: LiveHyrex) -> None:
    hyrex_live.start_worker("tests.integration.sdk.live_tasks:app")
    handle = divide.send(7, 2)
    assert handle.result(30) == 3.5
    assert handle.task_runs[0].worker


async def test_a_failed_task_is_replayed_with_other_arguments(hyrex_live: LiveHyrex) -> None:
    """By handle and by id, on and off a loop, and in the terminal."""
    hyrex_live.start_worker("tests.integration.sdk.live_tasks:app")
    handle = await divide.send_async(7, 0)
    assert not await handle.wait_async(60)
    assert await dismiss_async(handle.id)
    assert await asyncio.to_thread(lambda: dismiss(handle.id))
    fixed = await handle.replay_async({"a": 7, "b": 2})
    assert await fixed.result_async(60) == 3.5
    assert not await fixed.dismiss_async()
    again = await asyncio.to_thread(lambda: replay(fixed.id))
    assert await again.result_async(60) == 3.5
    command = (
        sys.executable,
        "-m",
        "hyrex.cli",
        "task",
        "replay",
        str(handle.id),
        "--payload-file",
        "-",
        "--json",
    )
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        input='{"a": 9, "b": 2}',
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told = json.loads(done.stdout)
    assert told["replay_of"] == str(handle.id)
    assert await (await get_task_async(told["id"])).result_async(60) == 4.5
    with pytest.raises(TaskNotFound):
        await replay_async(UUID(int=7 << 76))
    with pytest.raises(TaskNotFound):
        await dismiss_async(UUID(int=7 << 76))


def test_worker_that_cannot_start_shows_what_it_printed(hyrex_live: LiveHyrex, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_like_this\n")
    with pytest.raises(HyrexError, match="nothing_like_this"):
        hyrex_live.start_worker("broken:app", cwd=tmp_path)


TESTS = """
import threading
from pathlib import Path
from hyrex.testing.live import live_broker, live_hyrex
with live_broker(Path(".")) as broker, live_hyrex(broker) as live:
    live.start_worker("tests.integration.sdk.live_tasks:app", "-p", "1")
    print("in the test", flush=True)
    threading.Event().wait()
"""


def test_what_live_tests_started_ends_when_they_are_killed(processes: Processes, database_url: str) -> None:
    env = {"HYREX_TEST_DATABASE_URL": database_url}
    tests = processes.start("tests", sys.executable, "-c", TESTS, env=env)
    tests.wait_for("in the test")
    below = tree(tests.pid)[1:]
    assert len(below) >= 4  # a broker; a launcher, its stream process and a child
    tests.kill()
    for process in below:
        eventually(lambda pid=process.pid: is_gone(pid))  # type: ignore[misc]


def test_live_broker_leaves_alone_what_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """Tests run in shells that are set up for production too."""
    for name in NOT_INHERITED:
        monkeypatch.setenv(name, "production")
    monkeypatch.setenv("HYREX_DATABASE_URL", "postgresql://127.0.0.1:1/production")
    monkeypatch.setenv("HYREX_TEST_DATABASE_URL", database_url)
    with live_broker(tmp_path) as broker:  # it is ready, so nothing else was meant for it
        assert broker.database_url == database_url
