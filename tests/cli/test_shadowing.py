"""Files with everyday names beside the application hide neither Hyrex nor what Hyrex uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import environment
from tests.support.processes import Processes

HYREX = Path(sys.executable).with_name("hyrex")  # the script, as it is installed
SHADOWS = ("broker", "client", "logs", "queue", "secrets", "server", "types", "worker")
TASKS = """
from hyrex import HyrexApp, HyrexRegistry

hy = HyrexRegistry()
app = HyrexApp("shop")


@hy.task
def double(number: int) -> int:
    return number * 2


@hy.task
async def triple(number: int) -> int:
    return number * 3


app.add_registry(hy)

if __name__ == "__main__":
    print(double.send(2).result(30), triple.send(2).result(30))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application named tasks.py among files that say so when they are imported."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the other {name}.py was imported')")
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


def start(processes: Processes, folder: Path, *command: str, **env: str):  # type: ignore[no-untyped-def]
    return processes.start(command[0], str(HYREX), *command, env=env, cwd=folder)


def test_every_command_runs_beside_such_files(processes: Processes, database_url: str, folder: Path) -> None:
    database = {"HYREX_DATABASE_URL": database_url}
    assert start(processes, folder, "migrate", **database).wait() == 0
    broker = start(processes, folder, "run-broker", "--listen", "127.0.0.1:0", **database)
    url = "grpc://" + broker.wait_for(r"broker ready: listening on (\S+)")[1]
    worker = start(processes, folder, "run-worker", "tasks:app", "-p", "1", HYREX_BROKER_URL=url)
    worker.wait_for(r"worker ready: ")
    for command in (
        ("task", "list"),
        ("task", "send", "double", '{"number": 4}', "--wait", "30"),
        ("task", "send", "triple", '{"number": 4}', "--wait", "30"),
        ("queue", "list"),
        ("worker", "list"),
        ("broker", "list"),
        ("version",),
        ("init", "project"),
    ):
        done = start(processes, folder, *command, HYREX_BROKER_URL=url)
        assert done.wait() == 0, done.output
    assert "was imported" not in worker.output + broker.output
    assert worker.terminate() == 0
    assert broker.terminate() == 0


def test_dev_runs_beside_such_files(processes: Processes, folder: Path) -> None:
    from tests.cli.shop import DEV_WITHIN_S
    from tests.support.ports import free_port

    port = free_port()
    dev = start(processes, folder, "dev", "tasks:app", "--port", str(port), "-p", "1")
    dev.wait_for(r"ready in .* s; watching", timeout=DEV_WITHIN_S)
    sent = start(
        processes,
        folder,
        *("task", "send", "double", '{"number": 4}', "--wait", "30"),
        HYREX_BROKER_URL=f"grpc://127.0.0.1:{port}",
    )
    assert sent.wait() == 0, sent.output + dev.output
    assert "was imported" not in dev.output


def test_broker_py_on_the_path_is_not_taken_for_ours(
    processes: Processes, database_url: str, folder: Path
) -> None:
    for name in SHADOWS:  # what Python itself imports from PYTHONPATH is not ours to save
        if name not in ("broker", "worker"):
            (folder / f"{name}.py").unlink()
    env = {"HYREX_DATABASE_URL": database_url, "PYTHONPATH": "."}
    broker = start(processes, folder, "run-broker", "--listen", "127.0.0.1:0", **env)
    url = "grpc://" + broker.wait_for(r"broker ready: listening on (\S+)")[1]
    several = start(processes, folder, "run-broker", "--processes", "2", "--listen", url[7:], **env)
    assert several.wait(100) == 5, several.output  # its children run; the port is taken
    worker = start(
        processes, folder, "run-worker", "tasks:app", "-p", "1", HYREX_BROKER_URL=url, PYTHONPATH="."
    )
    worker.wait_for(r"worker ready: ")
    sender = subprocess.run(
        [sys.executable, "tasks.py"],
        cwd=folder,
        env=environment({"HYREX_BROKER_URL": url, "PYTHONPATH": "."}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert sender.stdout == "4 6\n", sender.stderr
