"""A process between an application and its Postgres, which stops Postgres when the application is gone.

Run as a file, with the standard library only; one JSON argument says what to run. It stops Postgres when its
stdin says so or ends, or when it has another parent. Stdin alone is not enough, since forked children of the
application may hold the other end.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from functools import partial
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
LOOK_EVERY_S: Final = 0.5
FAST_STOP_S: Final = 8.0


def follow_parent(parent: int) -> None:
    """Ask the kernel to end this process at once when `parent`, which started it, ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it had ended before the kernel was asked


def start(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start Postgres under the ordered account, its output appended to the log."""
    account = order["account"]
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return subprocess.Popen(
        order["command"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env=order["environment"],
        pass_fds=[order["lock_fd"]],
        preexec_fn=partial(follow_parent, os.getpid()),  # noqa: PLW1509  it has one thread
        **account,
    )


def child_ends() -> int:
    """A descriptor that becomes readable when a child process ends."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def parent_wants_stop(parent: int, ended: int) -> bool:
    """Wait a moment, less if something happens. Return True if the application said stop, or is gone."""
    ready, _, _ = select.select([0, ended], [], [], LOOK_EVERY_S)
    return 0 in ready or os.getppid() != parent


def stop(postgres: subprocess.Popen[bytes]) -> None:
    """A fast shutdown (sessions are cut, data is flushed); an immediate one if that takes too long."""
    for sent, wait_s in ((signal.SIGINT, FAST_STOP_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            postgres.send_signal(sent)
        try:
            postgres.wait(wait_s)
        except subprocess.TimeoutExpired:
            continue
        return


def main() -> int:
    """Supervise one Postgres; return its exit status."""
    order = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(postgres.pid, signal.SIGINT))
    parent = order["parent"]
    ended = child_ends()
    postgres = start(order)
    while postgres.poll() is None:
        if parent_wants_stop(parent, ended):
            stop(postgres)
    if order["remove"] is not None and os.getppid() != parent:
        shutil.rmtree(order["remove"], ignore_errors=True)
    return postgres.returncode


if __name__ == "__main__":
    sys.exit(main() & 0xFF)
