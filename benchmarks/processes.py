"""Processes of a measurement: started, awaited, given orders, measured, and ended by their own ids.

A process says that it is ready by a line of output. An *actor* also obeys orders: a JSON object per
line in, a JSON object per line out (benchmarks/actors/orders.py).
"""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
READY_WITHIN_S: Final = 60.0
END_WITHIN_S: Final = 10.0
KEPT_LINES: Final = 200
TIED: Final = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class ProcessFailed(Exception):
    """A process ended, or said nothing in time; the text holds what it printed."""


class Process:
    """A command in a process group of its own, which dies with its starter (Linux)."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.name = name
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._printed: list[str] = []
        self._is_awaited = True
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TIED, str(os.getpid()), *command],
            env=_environment(env or {}),
            cwd=cwd or ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, name=f"output of {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """True if it has not ended."""
        return self._popen.poll() is None

    def wait_for(self, pattern: str, timeout_s: float = READY_WITHIN_S) -> re.Match[str]:
        """Wait for a line that matches. Raises: ProcessFailed."""
        deadline = time.monotonic() + timeout_s
        while True:
            line = self._next_line(deadline, f"waiting for {pattern!r}")
            if match := re.search(pattern, line):
                return match

    def order(self, **order: object) -> None:
        """Give an order; `answer` returns what comes of it."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()
        except OSError as error:
            raise self._failure(f"gone before the order {order}") from error

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """The answer to the oldest open order. Raises: ProcessFailed."""
        deadline = time.monotonic() + timeout_s
        while True:
            line = self._next_line(deadline, "waiting for an answer")
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                if "failed" in answer:
                    raise self._failure(answer["failed"])
                return answer

    def ask(self, timeout_s: float, **order: object) -> dict[str, Any]:
        """Give an order and wait for its answer."""
        self.order(**order)
        return self.answer(timeout_s)

    def ignore_lines(self) -> None:
        """Nobody waits for its lines any more, so none is kept for that: it may print for hours."""
        self._is_awaited = False

    def last_words(self) -> str:
        """Its name, and what it printed last."""
        return f"{self.name}\n{''.join(self._printed[-KEPT_LINES:])}"

    def terminate(self) -> None:
        """Ask it to leave, then make it and its group."""
        if self.running:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(END_WITHIN_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL whatever is left of its group, and reap it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def _next_line(self, deadline: float, doing: str) -> str:
        try:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise self._failure(f"out of time {doing}") from None
        if line is None:
            self._lines.put(None)
            raise self._failure(f"ended {doing}")
        return line

    def _failure(self, what: str) -> ProcessFailed:
        return ProcessFailed(f"{what}: {self.last_words()}")

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._printed.append(line)
            del self._printed[:-KEPT_LINES]
            if self._is_awaited:
                self._lines.put(line)
        self._lines.put(None)


def actor(module: str, *arguments: str, env: Mapping[str, str] | None = None, name: str = "") -> Process:
    """Start `python -m benchmarks.actors.MODULE` and wait until it takes orders."""
    command = [sys.executable, "-m", f"benchmarks.actors.{module}", *arguments]
    process = Process(name or module, command, env)
    process.wait_for(r"^actor ready")
    return process


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HYREX_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | dict(extra)
