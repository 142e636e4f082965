"""One child process of a test: started, awaited by what it prints, ended by its own id."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TIED: Final = Path(__file__).with_name("tied.py")
READY_WITHIN_S: Final = 60.0
ENDED_WITHIN_S: Final = 60.0


class Process:
    """A running command in a process group of its own; its output is kept, line by line."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(TIED), str(os.getpid()), *command],
            env=environment(env or {}),
            cwd=cwd or ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which is its process group too."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """True if it has not ended."""
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far, errors included."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout: float = READY_WITHIN_S, *, times: int = 1) -> re.Match[str]:
        """Wait until the output holds `pattern` (a regular expression) so many times; the last match.

        Raises: AssertionError with the whole output when it ends or time is up before that.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = list(re.finditer(pattern, "".join(self._lines)))
                if len(found) >= times:
                    return found[times - 1]
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "ended" if self._ended else f"said nothing like it in {timeout} s"
                    raise AssertionError(
                        f"waiting for {pattern!r}: {self.name} {why}\n{''.join(self._lines)}"
                    )
                self._changed.wait(left)

    def wait(self, timeout: float = ENDED_WITHIN_S) -> int:
        """Wait for its end; the exit status (negative: a signal)."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout} s\n{self.output}") from None
        self._reader.join(1.0)  # a grandchild may hold the pipe longer; its output is of no interest
        return status

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        self._popen.send_signal(number)

    def terminate(self, timeout: float = ENDED_WITHIN_S) -> int:
        """SIGTERM, then wait for the end; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL the process alone (not its children), then reap it."""
        self._popen.kill()
        self._popen.wait(ENDED_WITHIN_S)

    def end_group(self) -> None:
        """SIGKILL whatever is left of its process group, and reap it. Safe to repeat."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(ENDED_WITHIN_S)
        self._reader.join(1.0)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a tested process: ours without HYREX_ settings, with the source tree importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HYREX_")}
    kept |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    return kept | dict(extra)
