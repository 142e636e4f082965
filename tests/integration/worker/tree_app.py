"""Tasks that start processes and threads, in all the ways that user code does."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hyrex.app import HyrexApp
from hyrex.registry import HyrexRegistry
from tests.integration.worker.bench_app import note

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)",
]


@contextmanager
def lifespan(app: HyrexApp) -> Iterator[None]:
    """Hang at the end where a task said so."""
    yield
    if hanging:
        note("hangs")
        time.sleep(600)


hy = HyrexRegistry()
app = HyrexApp("trees", lifespan=lifespan)
hanging: list[bool] = []


@hy.task
def squares(count: int) -> list[int]:
    """Use a pool of forks, and end it."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(_square, range(count))


def _square(number: int) -> int:
    return number * number


@hy.task
def terminated() -> int:
    """End a fork at once, as Process.terminate() does; its exit code."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode or 0


@hy.task
async def terminated_async() -> int:
    """As `terminated`, below an event loop."""
    return terminated()


@hy.task
def forked(how: str) -> list[int | str]:
    """Fork; the fork ends as `how` says. Its exit status, and who the parent is."""
    pid = os.fork()
    if pid == 0:
        _end(how)
        return ["fork"]
    return ["parent", _status_of(pid)]


@hy.task
async def forked_async(how: str) -> list[int | str]:
    """As `forked`, below an event loop."""
    pid = os.fork()
    if pid == 0:
        _end(how)
        return ["fork"]
    return ["parent", _status_of(pid)]


def _status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _end(how: str) -> None:
    if how == "raises":
        raise ValueError("in the fork")
    if how == "exits":
        sys.exit(7)


@hy.task
def tree(end: str) -> None:
    """Start processes of many kinds, note them, then end as told, or go on for ever."""
    pids = [
        subprocess.Popen(SLEEP).pid,
        subprocess.Popen(SLEEP, start_new_session=True).pid,
        subprocess.Popen(SLEEP, env={}).pid,
        _daemon(),
        _below_a_shell(),
        _stubborn(),
        _fork(),
    ]
    note("tree " + " ".join(map(str, pids)))
    if end == "exit":
        os._exit(9)
    while end != "return":
        try:
            time.sleep(600)
        except BaseException:
            note("ignored")


def _daemon() -> int:
    """A process whose parent has ended, in a session of its own."""
    out = subprocess.run(
        ["sh", "-c", 'setsid "$0" "$@" >/dev/null 2>&1 & echo $!', *SLEEP], capture_output=True, check=True
    )
    return int(out.stdout)


def _below_a_shell() -> int:
    """A grandchild."""
    shell = subprocess.Popen(["sh", "-c", '"$0" "$@" & echo $!; wait', *SLEEP], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    return int(shell.stdout.readline())


def _stubborn() -> int:
    """A process that ignores SIGTERM, and does so already."""
    process = subprocess.Popen(STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    return pid


@hy.task
def hold_on(how: str) -> int:
    """Leave something that keeps the child from ending; its pid."""
    if how == "thread":
        threading.Thread(target=time.sleep, args=(600,)).start()
    else:
        hanging.append(True)
    return os.getpid()


@hy.task
def orphan() -> int:
    """Leave a process that ends by itself soon; its pid."""
    return int(subprocess.run(["sh", "-c", "true & echo $!"], capture_output=True, check=True).stdout)


@hy.task
async def nothing() -> None:
    """Make the app have a pool for async tasks."""


app.add_registry(hy)
