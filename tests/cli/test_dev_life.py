"""The life of `hyrex dev`: code that changes and breaks, children that crash, the end of it all."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hyrex.cli.devserver import tied
from hyrex_broker.embedded.account import postgres_account
from hyrex_broker.embedded.binaries import find_binaries
from tests.cli.shop import DEV_WITHIN_S, HYREX, Shop, sent_id
from tests.support.eventually import eventually
from tests.support.postgres import connect
from tests.support.process import Process
from tests.support.trees import is_gone, running

SLOW = """

@hy.task
def slow() -> None:
    import time
    print("begun", flush=True)
    time.sleep(60)
"""

FAILING = """

@hy.task
def fails() -> None:
    raise LookupError("no such thing")
"""

PRINTER = """

@hy.task
def noisy() -> str:
    import sys
    print("x" * 3_000_000)
    for step in range(12_000):
        sys.stdout.write(f"{step} of 12000" + " " * 100 + "\\r")
    sys.stdout.buffer.write(bytes(range(128, 256)) * 20)
    sys.stdout.write("\\nlast line\\n")
    sys.stdout.flush()
    return "done"
"""


def overloaded() -> bool:
    """Return True if so much else runs here that seconds say nothing about Hyrex."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


def family(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Those that still live after a while; none, one hopes."""
    deadline = time.monotonic() + timeout
    left = processes
    while left and time.monotonic() < deadline:
        left = [each for each in left if not is_gone(each.pid)]
        time.sleep(0.02)
    return left


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


def test_failed_run_is_shown_with_its_traceback(own_shop: Shop) -> None:
    tasks = own_shop.folder / "tasks.py"
    tasks.write_text(tasks.read_text() + FAILING)
    dev = own_shop.dev()
    task_id = own_shop.python("-c", "from tasks import fails; print(fails.send().id)").stdout.strip()
    dev.wait_for(
        rf"task fails {task_id}, attempt 1 of 1, failed: LookupError: no such thing \(at .*tasks.py:"
    )
    dev.wait_for(r'tasks\.py", line \d+, in fails')


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
    assert dev.wait(60) == 0, dev.output
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
    for module in ("hyrex_broker", "hyrex.worker"):
        eventually(lambda module=module: running(dev.pid, module))[0].kill()  # type: ignore[misc]
    dev.wait_for(r"the broker was killed by SIGKILL; starting it again")
    dev.wait_for(r"the worker was killed by SIGKILL; starting it again")
    done = own_shop.python("send.py")
    deadline = time.monotonic() + 30
    while done.returncode != 0 and time.monotonic() < deadline:
        done = own_shop.python("send.py")
    assert "completed" in done.stdout


def test_dev_uses_the_database_that_its_command_line_names(own_shop: Shop, database_url: str) -> None:
    dev = own_shop.start_dev("--no-reload", "--database-url", database_url)
    dev.wait_for(r"postgres at 127\.0\.0\.1:\d+/\w+ \(--database-url\)", timeout=DEV_WITHIN_S)
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


def test_what_dev_starts_runs_nothing_if_dev_has_ended_meanwhile(tmp_path: Path) -> None:
    """Killed between the fork and the child's word to the kernel: its worker ran on for minutes."""
    mark = tmp_path / "mark"
    command = (sys.executable, "-c", f"open({str(mark)!r}, 'w')")
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid, runs in ((os.getpid(), True), (gone.pid, False)):
        ended = subprocess.run([sys.executable, tied.__file__, str(pid), *command], check=False, timeout=60)
        assert (ended.returncode == 0, mark.exists()) == (runs, runs)
        mark.unlink(missing_ok=True)


def test_first_start_with_broken_code_waits_for_the_mend(own_shop: Shop) -> None:
    tasks = own_shop.folder / "tasks.py"
    good = tasks.read_text()
    tasks.write_text(good + "\n)")
    dev = own_shop.start_dev()
    dev.wait_for(r"SyntaxError.*; mend it and save: the worker starts then", timeout=DEV_WITHIN_S)
    tasks.write_text(good)
    dev.wait_for(r"worker reloaded")
    assert "hello Ada" in own_shop.python("send.py").stdout


@pytest.mark.parametrize("variable", ["HYREX_DATABASE_URL", "HYREX_DATABASE_URL_FILE"])
async def test_dev_leaves_the_database_of_the_environment_alone(
    own_shop: Shop, empty_database_url: str, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "url").write_text(empty_database_url)
    value = empty_database_url if variable == "HYREX_DATABASE_URL" else str(tmp_path / "url")
    dev = own_shop.start_dev("--no-reload", **{variable: value})
    dev.wait_for(rf"{variable} is set, and not used here", timeout=DEV_WITHIN_S)
    dev.wait_for(r"private, data in .hyrex/", timeout=DEV_WITHIN_S)
    connection = await connect(empty_database_url)
    try:
        made = await connection.fetchval(
            "select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where nspname not like 'pg\\_%' and nspname <> 'information_schema'"
        )
    finally:
        await connection.close()
    assert made == 0


def test_dev_outlives_what_its_tasks_print(own_shop: Shop) -> None:
    tasks = own_shop.folder / "tasks.py"
    tasks.write_text(tasks.read_text() + PRINTER)
    dev = own_shop.dev()
    sent = own_shop.python("-c", "from tasks import noisy; print(noisy.send().result(60))")
    assert sent.stdout == "done\n", sent.stderr + dev.output[-2000:]
    dev.wait_for(r"last line")
    assert "more bytes)" in dev.output
    assert max(map(len, dev.output.splitlines())) < 20_000
    assert "completed" in own_shop.python("send.py").stdout


def test_dev_ends_quietly_when_nobody_reads_it(own_shop: Shop) -> None:
    command = [*HYREX, "dev", "--port", str(own_shop.port), "--no-reload"]
    line = f"{shlex.join(command)} | head -1; echo status ${{PIPESTATUS[0]}}"
    dev = own_shop.processes.start("hyrex dev", "bash", "-c", line, cwd=own_shop.folder)
    dev.wait_for(r"status \d+", timeout=DEV_WITHIN_S)
    assert "Traceback" not in dev.output
    assert "ExceptionGroup" not in dev.output


def test_ctrl_c_while_the_database_is_made_ends_quietly(own_shop: Shop) -> None:
    """A terminal sends it to the whole group: to initdb too, which would fail, and say so in 60 lines."""
    real = find_binaries(postgres_account()).folder
    programs = own_shop.folder.parent / "bin"
    programs.mkdir()
    programs.chmod(0o777)
    (programs / "postgres").symlink_to(real / "postgres")
    script = f"#!/bin/sh\n: > {programs}/began\nwhile [ ! -e {programs}/go ]; do sleep 0.05; done\n"
    (programs / "initdb").write_text(f'{script}exec {real}/initdb "$@"\n')
    (programs / "initdb").chmod(0o755)
    dev = own_shop.start_dev(HYREX_PG_BIN=str(programs))
    eventually((programs / "began").exists, within_s=DEV_WITHIN_S)
    os.killpg(dev.pid, signal.SIGINT)
    (programs / "go").touch()
    assert dev.wait(timeout=30) == 0, dev.output
    assert dev.output == ""
