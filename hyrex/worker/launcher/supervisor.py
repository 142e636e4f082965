"""The launcher: starts the stream process, buries it if it dies, and ends its session.

Stdlib only: it holds no stream and no thread, so that it survives what kills the others. It owns
every process below it: on Linux orphans come to it, and it reaps them before it ends a session.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

from hyrex.runtime import state_report
from hyrex.worker.shared.backoff import backoff_s
from hyrex.worker.shared.launcher_messages import Order, SessionOver, SessionTold, decode_lines, encode_line
from hyrex.worker.shared.logs import configure_logging
from hyrex.worker.shared.options import WorkerOptions, environment_with
from hyrex.worker.shared.platform import become_subreaper, children_of, exit_reason
from hyrex.worker.shared.remains import end_everything_below, reap_ended_orphans

log = logging.getLogger("hyrex.launcher")

BAD_OPTIONS = 2
FINAL_STATUSES = (0, 3, 4)  # left as told; the app is unusable; the broker refuses
_LONGEST_BACKOFF_S = 5.0


def run_worker(options: WorkerOptions) -> int:
    """Run a worker until it is told to leave by SIGTERM or SIGINT; the exit status.

    Takes over this process: its signals, its wait status and its descendants.
    """
    configure_logging()
    try:
        resolved = options.resolved()
    except ValueError as error:
        log.error("%s", error)
        return BAD_OPTIONS
    return Launcher(resolved).run()


class Launcher:
    """Supervises one stream process after the other."""

    def __init__(self, options: WorkerOptions) -> None:
        """Nothing is started before `run`."""
        self._options = options
        self._foreign = set(children_of(os.getpid()))  # not ours to reap
        self._orders = 0
        self._to_pass_on = 0  # a signal that asks the stream process to print its state
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._session: SessionTold | None = None

    def run(self) -> int:
        """Supervise until the worker is done."""
        become_subreaper()
        self._catch_signals()
        failures = 0
        while True:
            began = time.monotonic()
            status = self._run_once()
            self._bury()
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
        """One stream process's life; its return code."""
        ours, theirs = socket.socketpair()
        process = self._start(theirs)
        theirs.close()
        ours.setblocking(False)
        buffer, obeyed, deadline = bytearray(), 0, float("inf")
        while process.poll() is None:
            if self._to_pass_on:
                process.send_signal(self._to_pass_on)
                self._to_pass_on = 0
            if self._is_orphan():
                self._orders = max(self._orders, 1)
            if obeyed < self._orders:
                obeyed = self._orders
                deadline = time.monotonic() + self._give_order(ours, obeyed)
            if time.monotonic() > deadline or obeyed > 2:
                process.kill()
            self._listen(ours, buffer, 0.5, process.pid)
        self._listen(ours, buffer, 0, process.pid)
        ours.close()
        return process.returncode

    def _is_orphan(self) -> bool:
        """Whether a starter that wants this worker to end with it is gone."""
        return self._options.parent_pid not in (0, os.getppid())

    def _start(self, line: socket.socket) -> subprocess.Popen[bytes]:
        # The token travels in the environment, where other users cannot read it.
        environment = environment_with(self._options.token)
        options = self._options.without_token()
        command = [sys.executable, "-P", "-m", "hyrex.worker.stream.process", options.to_json()]
        command += [str(line.fileno()), str(os.getpid())]
        # A session of its own: a terminal's Ctrl-C reaches the launcher alone.
        with state_report.ignored_by_children():
            return subprocess.Popen(
                command,
                pass_fds=[line.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )

    def _give_order(self, line: socket.socket, orders: int) -> float:
        """Pass an order on; how long the stream process may take over it."""
        try:
            line.send(encode_line(Order("drain" if orders == 1 else "release")))
        except OSError:
            pass
        longest_s = self._options.grace_s + 15.0
        return longest_s + self._options.drain_timeout_s if orders == 1 else longest_s

    def _listen(self, line: socket.socket, buffer: bytearray, timeout_s: float, stream_pid: int) -> None:
        """Wait for news: a signal, or a word of the stream process."""
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
        for word in decode_lines(buffer):
            if isinstance(word, SessionTold):
                self._session = word
            elif isinstance(word, SessionOver):
                self._session = None

    def _reap_orphans(self, stream_pid: int) -> None:
        """Reap what user code left behind and has ended."""
        reap_ended_orphans({stream_pid, *self._foreign})

    def _bury(self) -> None:
        """Kill and reap everything that the stream process left behind."""
        end_everything_below(keep=self._foreign)

    def _end_session(self, reason: str) -> None:
        """Have the session ended, now that nothing of it runs; by a process of its own."""
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
