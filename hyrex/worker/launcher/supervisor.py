"""The launcher: starts the stream process, starts another if it dies, and ends the session of a dead one.

It uses the standard library only and holds neither stream nor thread, so that what kills the others does not
kill it. On Linux it becomes the parent of every process that is left below it, and ends and reaps them before
it ends a session.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from types import FrameType
from typing import Final

from hyrex.runtime import state_report
from hyrex.worker.shared.backoff import backoff_s
from hyrex.worker.shared.child_options import UNUSABLE
from hyrex.worker.shared.launcher_messages import (
    BAD_OPTIONS,
    REFUSED,
    Order,
    SessionOver,
    SessionTold,
    decode_lines,
    encode_line,
)
from hyrex.worker.shared.logs import configure_logging
from hyrex.worker.shared.options import WorkerOptions, environment_with
from hyrex.worker.shared.platform import become_subreaper, children_of, exit_reason
from hyrex.worker.shared.remains import end_everything_below, reap_ended_orphans

log = logging.getLogger("hyrex.launcher")

FINAL_STATUSES: Final = (0, BAD_OPTIONS, UNUSABLE, REFUSED)
_LONGEST_BACKOFF_S: Final = 5.0


def run_worker(options: WorkerOptions) -> int:
    """Run a worker until SIGTERM or SIGINT tells it to end; return the exit status.

    Takes over this process: its signals, and the reaping of all of its descendants.
    """
    try:
        resolved, problem = options.resolved(), None
    except ValueError as error:
        resolved, problem = options, error
    configure_logging(is_first=True, json_of=resolved.json_of)
    if problem is not None:
        log.error("%s", problem)
        return BAD_OPTIONS
    return Launcher(resolved).run()


class Launcher:
    """Runs one stream process after the other."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._foreign = set(children_of(os.getpid()))  # started by others in this process: never ended here
        self._orders = 0
        self._to_pass_on = 0  # a signal that asks the stream process to print its state
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._session: SessionTold | None = None

    def run(self) -> int:
        """Run stream processes until the worker is to end; return its exit status."""
        become_subreaper()
        self._catch_signals()
        failures = 0
        while True:
            began = time.monotonic()
            status = self._run_once()
            self._end_remains()
            self._end_session(f"worker exited with {exit_reason(status)}")
            if status in FINAL_STATUSES or self._orders:
                return status if status in FINAL_STATUSES else 1
            failures = failures + 1 if time.monotonic() - began < 5 else 0
            log.warning("the stream process ended with %s; starting a new one", exit_reason(status))
            time.sleep(backoff_s(0.1, failures, _LONGEST_BACKOFF_S) if failures else 0)

    def _catch_signals(self) -> None:
        for one in (self._wakeup_read, self._wakeup_write):
            one.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        for wanted in (signal.SIGTERM, signal.SIGINT):
            signal.signal(wanted, self._on_order)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        state_report.pass_on(self._on_print)

    def _on_order(self, _signal: int, _frame: FrameType | None) -> None:
        self._orders += 1

    def _on_print(self, number: int) -> None:
        self._to_pass_on = number

    def _run_once(self) -> int:
        """Run one stream process to its end; return its return code."""
        ours, theirs = socket.socketpair()
        process = self._start(theirs)
        theirs.close()
        ours.setblocking(False)
        buffer, passed_on, deadline = bytearray(), 0, float("inf")
        while process.poll() is None:
            if self._to_pass_on:
                process.send_signal(self._to_pass_on)
                self._to_pass_on = 0
            if self._is_orphan():
                self._orders = max(self._orders, 1)
            if passed_on < self._orders:
                passed_on = self._orders
                deadline = time.monotonic() + self._give_order(ours, passed_on)
            if time.monotonic() > deadline or passed_on > 2:
                process.kill()
            self._listen(ours, buffer, 0.5, process.pid)
        self._listen(ours, buffer, 0, process.pid)
        ours.close()
        return process.returncode

    def _is_orphan(self) -> bool:
        """Return True if the parent whose end is to end this worker (`parent_pid`) is gone."""
        return self._options.parent_pid not in (0, os.getppid())

    def _start(self, line: socket.socket) -> subprocess.Popen[bytes]:
        # The token goes by the environment, which other users cannot read.
        environment = environment_with(self._options.token)
        options = self._options.without_token()
        command = [sys.executable, "-P", "-m", "hyrex.worker.stream.process", options.to_json()]
        command += [str(line.fileno()), str(os.getpid())]
        # In an operating-system session of its own, so that a terminal's Ctrl-C reaches only the launcher.
        with state_report.ignored_by_children():
            return subprocess.Popen(
                command,
                pass_fds=[line.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )

    def _give_order(self, line: socket.socket, orders: int) -> float:
        """Pass an order on; return how many seconds the stream process may take to end."""
        try:
            line.send(encode_line(Order("drain" if orders == 1 else "release")))
        except OSError:
            pass
        longest_s = self._options.grace_s + 15.0
        return longest_s + self._options.drain_timeout_s if orders == 1 else longest_s

    def _listen(self, line: socket.socket, buffer: bytearray, timeout_s: float, stream_pid: int) -> None:
        """Wait for a signal or for messages of the stream process, and take them in."""
        ready, _, _ = select.select([line, self._wakeup_read], [], [], timeout_s)
        if self._wakeup_read in ready:
            self._wakeup_read.recv(4096)
            self._reap_orphans(stream_pid)
        if line not in ready:
            return
        try:
            chunk = line.recv(65536)
        except OSError:
            chunk = b""
        if not chunk and timeout_s:
            time.sleep(0.01)  # it has closed its end and is about to exit
        buffer += chunk
        for message in decode_lines(buffer):
            if isinstance(message, SessionTold):
                self._session = message
            elif isinstance(message, SessionOver):
                self._session = None

    def _reap_orphans(self, stream_pid: int) -> None:
        """Reap the processes that user code left behind and that have ended."""
        reap_ended_orphans({stream_pid, *self._foreign})

    def _end_remains(self) -> None:
        """End and reap every process that the stream process left behind."""
        end_everything_below(keep=self._foreign)

    def _end_session(self, reason: str) -> None:
        """Have another process end the session on the broker, now that nothing of it runs any more."""
        session, self._session = self._session, None
        if session is None:
            return
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "hyrex.worker.launcher.end_session",
                self._options.broker_url,
                reason,
            ],
            stdin=subprocess.PIPE,
            env=environment_with(self._options.token),
        )
        self._foreign.add(process.pid)
        assert process.stdin is not None
        process.stdin.write(encode_line(session))
        process.stdin.close()
        if self._orders:
            process.wait()
        else:
            self._ending = process
