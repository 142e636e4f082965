"""A stranger's first ten minutes, played with the real command line in a folder of its own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.process import Process, environment
from tests.support.processes import Processes

DEV_WITHIN_S = 100.0  # seconds on a quiet machine; a busy one may take its time
HYREX = (sys.executable, "-m", "hyrex.cli")


SLOW = """

@hy.task
def slow() -> None:
    import time
    print("begun", flush=True)
    time.sleep(60)
"""


@dataclass(frozen=True)
class Shop:
    """The project made by `hyrex init`, and the port its broker uses."""

    folder: Path
    port: int
    processes: Processes

    @property
    def url(self) -> str:
        return f"grpc://localhost:{self.port}"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder, as its user would."""
        env = environment({"HYREX_BROKER_URL": self.url, "HYREX_SEND_TIMEOUT": "2"})
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False, timeout=90
        )

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, *arguments)

    def hyrex(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*HYREX, *arguments)

    def dev(self, *arguments: str) -> Process:
        """Start `hyrex dev` and wait until it is ready."""
        process = self.start_dev(*arguments)
        process.wait_for(r"ready in .* s; watching \*\.py", timeout=DEV_WITHIN_S)
        return process

    def start_dev(self, *arguments: str, **env: str) -> Process:
        """Start `hyrex dev`; it ends with the test."""
        command = [*HYREX, "dev", "--port", str(self.port), *arguments]
        return self.processes.start("hyrex dev", *command, env=env, cwd=self.folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_shop(place: Path, processes: Processes) -> Shop:
    done = subprocess.run([*HYREX, "init", "shop"], cwd=place, env=environment({}), check=True, timeout=60)
    assert done.returncode == 0
    return Shop(place / "shop", free_port(), processes)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="hyrex-shop-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shop(place: Path) -> Iterator[Shop]:
    """A project with `hyrex dev` running, shared by the tests that only look."""
    (place / "shared").mkdir()
    processes = Processes()
    made = make_shop(place / "shared", processes)
    try:
        made.dev()
        yield made
    finally:
        processes.end()


@pytest.fixture
def own_shop(place: Path, request: pytest.FixtureRequest, processes: Processes) -> Shop:
    """A project of the test's own; nothing runs yet."""
    folder = place / request.node.name
    folder.mkdir()
    return make_shop(folder, processes)


def overloaded() -> bool:
    """Whether so much else runs here that seconds say nothing about Hyrex."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


def sent_id(output: str) -> str:
    found = re.search(r"sent \w+ (\S+)", output)
    assert found, output
    return found[1]


def family(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Those that still live after a while; none, one hopes."""
    deadline = time.monotonic() + timeout
    left = processes
    while left and time.monotonic() < deadline:
        left = [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        time.sleep(0.02)
    return left


def test_first_task_completes_and_shows_its_result(shop: Shop) -> None:
    done = shop.python("send.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"sent hello \S+  queued -> completed in \d+ ms: \{'greeting': 'hello Ada'\}", done.stdout
    )


def test_failing_task_shows_its_attempts_and_the_remote_traceback(shop: Shop) -> None:
    done = shop.python("send.py", "--fail")
    assert done.returncode == 1
    assert "TaskFailed: flaky" in done.stdout
    assert "ValueError: no luck (3 attempts)" in done.stdout
    assert 'tasks.py", line' in done.stdout
    shown = shop.hyrex("task", "get", sent_id(done.stdout))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("ValueError: no luck") >= 3
    assert re.search(r"^ *2 +2 +failed +\d+ ms", shown.stdout, re.MULTILINE), shown.stdout
    task = json.loads(shop.hyrex("task", "get", sent_id(done.stdout), "--json").stdout)
    assert [run["attempt_number"] for run in task["runs"]] == [0, 1, 2]
    assert task["status"] == "failed"


def test_task_that_nobody_serves_says_what_it_waits_for(own_shop: Shop) -> None:
    own_shop.dev("-q", "default")
    done = own_shop.python("send.py", "--queue", "nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "queued; waiting: no connected worker serves queue 'nowhere'" in done.stdout
    shown = own_shop.hyrex("task", "get", sent_id(done.stdout)).stdout
    assert "waiting: no connected worker serves queue 'nowhere'" in shown


def test_lists_show_what_there_is(shop: Shop) -> None:
    assert shop.python("send.py").returncode == 0
    tasks = json.loads(shop.hyrex("task", "list", "--name", "hello", "--limit", "1", "--json").stdout)
    assert tasks["tasks"][0]["name"] == "hello"
    workers = json.loads(shop.hyrex("worker", "list", "--json").stdout)
    assert [worker["tasks"] for worker in workers] == [["flaky", "hello", "total"]]
    assert len(json.loads(shop.hyrex("broker", "list", "--json").stdout)) == 1
    assert "default" in shop.hyrex("queue", "list").stdout


def test_queue_can_be_paused_purged_and_resumed(shop: Shop) -> None:
    paused = shop.hyrex("queue", "pause", "slow", "--json")
    assert json.loads(paused.stdout)[0]["paused"] is True, paused.stderr
    sent = shop.python("-c", "from tasks import hello; print(hello.with_config(queue='slow').send('Ada').id)")
    purged = shop.hyrex("queue", "purge", "slow", "--yes", "--json")
    assert json.loads(purged.stdout)["cancelled"] == 1, purged.stderr
    assert (
        json.loads(shop.hyrex("task", "get", sent.stdout.strip(), "--json").stdout)["status"] == "cancelled"
    )
    assert json.loads(shop.hyrex("queue", "resume", "slow", "--json").stdout)[0]["paused"] is False
    assert json.loads(shop.hyrex("queue", "limit", "slow", "3", "--json").stdout)[0]["concurrency_limit"] == 3


def test_finished_task_can_be_retried_and_a_waiting_one_cancelled(shop: Shop) -> None:
    done = sent_id(shop.python("send.py").stdout)
    assert "requeued" in shop.hyrex("task", "retry", done).stdout
    code = "from datetime import timedelta; from tasks import hello; "
    code += "print(hello.with_config(delay=timedelta(hours=1)).send('Ada').id)"
    waiting = shop.python("-c", code).stdout.strip()
    assert "cancelled" in shop.hyrex("task", "cancel", waiting, "--reason", "enough").stdout
    unknown = shop.hyrex("task", "cancel", "01900000-0000-7000-8000-000000000000")
    assert (unknown.returncode, "not_found" in unknown.stdout) == (1, True)


def test_second_dev_on_the_port_is_refused(shop: Shop) -> None:
    done = shop.hyrex("dev", "--port", str(shop.port))
    assert done.returncode == 1
    assert f"port {shop.port} is in use" in done.stderr


def test_tests_of_the_template_pass_without_a_broker(own_shop: Shop) -> None:
    done = own_shop.python("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_saved_code_replaces_the_worker_and_broken_code_does_not(own_shop: Shop) -> None:
    tasks = own_shop.folder / "tasks.py"
    good = tasks.read_text()
    dev = own_shop.dev()
    tasks.write_text(good.replace("hello {name}", "goodbye {name}"))
    dev.wait_for(r"worker reloaded in [\d.]+ s, 0 runs interrupted")
    assert "goodbye Ada" in own_shop.python("send.py").stdout
    tasks.write_text("def (\n" + good)
    dev.wait_for(r"tasks\.py:1 SyntaxError: .*; old code keeps running")
    tasks.write_text(good + "\nundefined_name\n")
    dev.wait_for(r"tasks\.py:\d+ NameError: .*; old code keeps running")
    tasks.write_text(good)
    dev.wait_for(r"worker reloaded", times=2)
    assert "hello Ada" in own_shop.python("send.py").stdout


def test_reload_counts_the_runs_that_it_interrupts(own_shop: Shop) -> None:
    tasks = own_shop.folder / "tasks.py"
    tasks.write_text(tasks.read_text() + SLOW)
    dev = own_shop.dev()
    task_id = own_shop.python("-c", "from tasks import slow; print(slow.send().id)").stdout.strip()
    dev.wait_for(r"begun")
    tasks.write_text(tasks.read_text() + "\n")
    dev.wait_for(r"worker reloaded in [\d.]+ s, 1 run interrupted")
    dev.wait_for(r"begun", times=2)
    runs = json.loads(own_shop.hyrex("task", "get", task_id, "--json").stdout)["runs"]
    assert [run["attempt_number"] for run in runs] == [0, 0]


def test_interrupt_ends_everything_in_two_seconds_and_keeps_the_data(own_shop: Shop) -> None:
    dev = own_shop.dev()
    task_id = sent_id(own_shop.python("send.py").stdout)
    processes = family(dev)
    assert len(processes) >= 5
    began = time.monotonic()
    dev.signal(signal.SIGINT)
    assert dev.wait(10) == 0, dev.output
    assert time.monotonic() - began < (10.0 if overloaded() else 2.0)
    assert not all_gone(processes, 1.0)
    refused = own_shop.python("send.py")
    assert refused.returncode == 1
    assert f"BrokerUnavailable: no answer from {own_shop.url} within 2 s" in refused.stdout
    assert "hyrex dev" in refused.stdout
    own_shop.dev()
    assert json.loads(own_shop.hyrex("task", "get", task_id, "--json").stdout)["status"] == "completed"


def test_crashed_broker_and_worker_are_started_again(own_shop: Shop) -> None:
    dev = own_shop.dev()
    for module in ("broker", "hyrex.worker"):
        found = [p for p in psutil.Process(dev.pid).children() if module in p.cmdline()]
        os.kill(found[0].pid, signal.SIGKILL)
    dev.wait_for(r"the broker was killed by SIGKILL; starting it again")
    dev.wait_for(r"the worker was killed by SIGKILL; starting it again")
    done = own_shop.python("send.py")
    deadline = time.monotonic() + 30
    while done.returncode != 0 and time.monotonic() < deadline:
        done = own_shop.python("send.py")
    assert "completed" in done.stdout


def test_dev_uses_the_database_of_the_environment(own_shop: Shop, database_url: str) -> None:
    dev = own_shop.start_dev("--no-reload", HYREX_DATABASE_URL=database_url)
    dev.wait_for(r"postgres at 127\.0\.0\.1:\d+/\w+ \(HYREX_DATABASE_URL\)", timeout=DEV_WITHIN_S)
    dev.wait_for(r"ready in [\d.]+ s\n", timeout=DEV_WITHIN_S)
    assert database_url not in dev.output
    assert "completed" in own_shop.python("send.py").stdout
    assert not (own_shop.folder / ".hyrex").exists()


def test_nothing_is_left_when_dev_is_killed(own_shop: Shop) -> None:
    dev = own_shop.dev()
    processes = family(dev)
    dev.kill()
    left = all_gone(processes, 10.0)
    assert not left


def test_first_start_with_broken_code_waits_for_the_mend(own_shop: Shop) -> None:
    tasks = own_shop.folder / "tasks.py"
    good = tasks.read_text()
    tasks.write_text(good + "\n)")
    dev = own_shop.start_dev()
    dev.wait_for(r"SyntaxError.*; mend it and save: the worker starts then", timeout=DEV_WITHIN_S)
    tasks.write_text(good)
    dev.wait_for(r"worker reloaded")
    assert "hello Ada" in own_shop.python("send.py").stdout
