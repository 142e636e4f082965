"""The parts of `hyrex dev`, with small real processes in place of broker and worker."""

import asyncio
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyrex.cli.devserver import beside
from hyrex.cli.devserver.child import ChildEnded, DevProcess, Recipe
from hyrex.cli.devserver.keeper import Keeper
from hyrex.cli.devserver.session import require_free_port
from hyrex.cli.devserver.target import check, chosen_target
from hyrex.cli.errors import CommandError
from tests.support.process import Process
from tests.support.trees import is_gone

READY = re.compile(r"worker ready: (?P<name>[^,]+), (?P<serves>.*)")
SERVES = "print('worker ready: w1, 3 tasks', flush=True); import time; time.sleep(600)"


def recipe(code: str) -> Recipe:
    return Recipe("worker", ["-c", code], {}, READY)


@pytest.fixture
async def relays() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as group:
        yield group


async def ready_child(code: str, relays: asyncio.TaskGroup) -> DevProcess:
    keeper = Keeper(lambda: recipe(code), relays)
    return await keeper.start()


async def test_child_is_ready_when_it_says_so(relays: asyncio.TaskGroup) -> None:
    child = await ready_child(SERVES, relays)
    assert (await child.until_ready(1))["serves"] == "3 tasks"
    assert child.name == "w1"
    await child.kill()


async def test_child_that_ends_before_it_is_ready_is_told_with_its_status(relays: asyncio.TaskGroup) -> None:
    with pytest.raises(ChildEnded, match="the worker ended with exit status 3 before it was ready"):
        await ready_child("raise SystemExit(3)", relays)


async def test_output_of_a_child_is_shown_under_its_label(
    relays: asyncio.TaskGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    child = await ready_child("print('hello', flush=True);" + SERVES, relays)
    await child.kill()
    shown = capsys.readouterr().out
    assert "worker | hello" in shown
    assert "ready" not in shown


async def test_a_dashboard_whose_port_is_taken_while_it_starts_takes_another(
    relays: asyncio.TaskGroup, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another `hyrex dev` that starts at the same moment: both find the port free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, seen = taken.getsockname()[1], iter([True])
        is_free = beside.is_free
        monkeypatch.setattr(beside, "is_free", lambda port: next(seen, None) or is_free(port))
        dashboard = beside.dashboard_keeper(port, "127.0.0.1:1", relays)
        assert dashboard is not None
        kept = asyncio.create_task(beside.keep(dashboard))
        async with asyncio.timeout(60):
            child = await dashboard.other_than(None)
            while not (
                shown := re.search(r"^dashboard http://localhost:(\d+)/$", capsys.readouterr().out, re.M)
            ):
                await asyncio.sleep(0.01)
        kept.cancel()
        await child.kill()
        assert int(shown[1]) != port


async def test_crashed_child_is_started_again(
    relays: asyncio.TaskGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = Keeper(lambda: recipe(SERVES), relays)
    first = await keeper.start()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        first.process.kill()
        async with asyncio.timeout(60):
            await keeper.other_than(first)
        running.cancel()
    assert keeper.child is not None
    assert keeper.child.process.returncode is None
    assert "the worker was killed by SIGKILL; starting it again" in capsys.readouterr().out
    await keeper.child.kill()


async def test_child_that_was_replaced_is_not_started_again(
    relays: asyncio.TaskGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = Keeper(lambda: recipe(SERVES), relays)
    old = await keeper.start()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        fresh = await keeper.start()
        await old.kill()
        await asyncio.sleep(0)
        assert keeper.child is fresh
        running.cancel()
    assert "starting it again" not in capsys.readouterr().out
    await fresh.kill()


def test_child_ends_when_dev_is_killed() -> None:
    code = f"""
import asyncio, re
from hyrex.cli.devserver import beside
from hyrex.cli.devserver.child import DevProcess, Recipe
async def main():
    child = await DevProcess.start(Recipe("worker", ["-c", {SERVES!r}], {{}}, re.compile("ready")))
    print("child", child.process.pid, flush=True)
    await child.relay_output()
asyncio.run(main())
"""
    parent = Process("parent", [sys.executable, "-c", code])
    pid = int(parent.wait_for(r"child (\d+)")[1])
    parent.kill()
    deadline = time.monotonic() + 60
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.end_group()


def test_target_defaults_to_the_app_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=r"there is no app\.py here"):
        chosen_target(None)
    (tmp_path / "app.py").touch()
    assert chosen_target(None) == "app:app"
    assert chosen_target("shop") == "shop:app"
    assert chosen_target("shop:store") == "shop:store"


async def test_code_that_ends_python_at_import_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text("import os\nos._exit(7)\n")
    broken = await check("shop:app")
    assert broken is not None
    assert "exit status 7" in broken.error


async def test_a_send_at_import_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a reload, as in every child of a worker, a broker is up and would take it each time."""
    monkeypatch.chdir(tmp_path)
    code = "import hyrex\nhy = hyrex.HyrexRegistry()\n@hy.task\ndef one() -> None: ...\none.send()\n"
    (tmp_path / "shop.py").write_text(code)
    broken = await check("shop:app")
    assert broken is not None
    assert str(broken).startswith("shop.py:5 RuntimeUnsupported: a broker is asked while a worker imports")
    assert broken.error.endswith('below `if __name__ == "__main__":`')


def test_port_in_use_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} is in use.*--port {port + 1}"):
            require_free_port(port)
