"""Several broker processes on one port: a parent that starts them, passes signals on and reaps them.

Each is a broker of its own with SO_REUSEPORT; the kernel spreads connections over them. If one of the first
cannot even start, they all end with its exit status. One that dies later is started again until it lives,
with pauses that grow: it may have died while Postgres was away, and the others still serve. They stop by
themselves when the parent is killed.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from hyrex.runtime import state_report
from hyrex_broker.config import FLAGS, BrokerConfig
from hyrex_broker.domain.pauses import growing_s
from hyrex_broker.hangup import stop_signals

log = logging.getLogger(__name__)

_SHORTEST_LIFE_S: Final = 30.0  # a busy machine takes ten to find that the port is in use
_START_FAILURES: Final = range(2, 6)
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.1
_SECRETS: Final = frozenset(
    f"HYREX_{name}{ending}"
    for name in ("DATABASE_URL", "READ_DATABASE_URL", "OUTBOX_URL", "TOKEN")
    for ending in ("", "_FILE")
)

_NOT_AS_FLAGS: Final = frozenset({"host", "port", "database_url", "read_database_url", "outbox_url", "token"})
"""Where to listen is one flag, and `ps` shows flags to others: secrets go by environment."""


class _Stopping(Exception):
    """A signal to stop has come."""


@dataclass(frozen=True, slots=True)
class _Child:
    """One broker process."""

    number: int
    started: float
    process: "subprocess.Popen[bytes]"
    is_first: bool = True
    """No other process had its number before."""
    failures: int = 0
    """How many before it ended soon after their start."""

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started


def run(config: BrokerConfig) -> int:
    """Run `config.processes` brokers until a signal; return the exit status."""
    children: dict[int, _Child] = {}
    try:
        state_report.pass_on(lambda number: _signal_all(children, number))
        with _stop_signals():
            for number in range(config.processes):
                _start(config, number, children)
            return _keep(config, children)
    except _Stopping:
        return 0
    finally:
        _end(config, children)


def _keep(config: BrokerConfig, children: dict[int, _Child]) -> int:
    """Start those again that end, until one of the first cannot start; return its exit status."""
    due: dict[float, tuple[int, int]] = {}
    """Number and failures of those to start, by when."""
    while True:
        for moment in [moment for moment in due if moment <= time.monotonic()]:
            _restart(config, children, due, *due.pop(moment))
        pid, status = _ended(wait=not due)
        child = children.pop(pid, None)
        if child is None:
            # nobody yet, or not a broker: a child of the shell that became this process, or an orphan (PID 1)
            continue
        code = os.waitstatus_to_exitcode(status)
        if child.is_first and code in _START_FAILURES and child.age_s < _SHORTEST_LIFE_S:
            return code
        pause_s = 0.0 if child.age_s >= _SHORTEST_LIFE_S else _pause_s(child.failures)
        due[time.monotonic() + pause_s] = child.number, child.failures + 1 if pause_s else 0
        log.error(
            "a broker process ended; starting another",
            extra={"pid": pid, "status": code, "in_s": round(pause_s, 1)},
        )


def _ended(*, wait: bool) -> tuple[int, int]:
    """Process and status of a child that has ended; 0 if none has, and it was not to wait."""
    if wait:
        return os.wait()
    time.sleep(_LOOK_EVERY_S)
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:  # all of them have ended
        return 0, 0


def _pause_s(failures: int) -> float:
    """How long to wait before another is started after one that lived for a moment only: a second, and twice
    as long, up to a bound, for each one before that did too."""
    return growing_s(_FIRST_PAUSE_S, failures, _LONGEST_PAUSE_S)


def _restart(
    config: BrokerConfig,
    children: dict[int, _Child],
    due: dict[float, tuple[int, int]],
    number: int,
    failures: int,
) -> None:
    """Start a process in the place of one that ended; later if the system has no room for one just now."""
    try:
        _start(config, number, children, failures)
    except OSError as error:
        pause_s = _pause_s(failures)
        due[time.monotonic() + pause_s] = number, failures + 1
        log.error(
            "a broker process cannot be started; trying again",
            extra={"error": str(error), "in_s": round(pause_s, 1)},
        )


def _start(
    config: BrokerConfig, number: int, children: dict[int, _Child], failures: int | None = None
) -> None:
    """Start a process; `failures`: those before it under this number, None for the first."""
    with state_report.ignored_by_children():
        process = subprocess.Popen(_command(config, number), env=_environment(config))
    children[process.pid] = _Child(number, time.monotonic(), process, failures is None, failures or 0)


def _signal_all(children: dict[int, _Child], number: int) -> None:
    for child in list(children.values()):
        child.process.send_signal(number)


def _command(config: BrokerConfig, number: int) -> list[str]:
    return [sys.executable, "-P", "-m", "hyrex_broker", *_arguments(_own_config(config, number))]


def _own_config(config: BrokerConfig, number: int) -> BrokerConfig:
    """The settings of one process. For metrics, each has the port after the one of its predecessor."""
    own: dict[str, Any] = {
        "name": f"{config.name}-{number}", "processes": 1, "reuse_port": True, "parent_pid": os.getpid()
    }  # fmt: skip
    if config.metrics is not None:
        own["metrics"] = config.metrics._replace(port=config.metrics.port + number)
    return config.model_copy(update=own)


def _arguments(config: BrokerConfig) -> list[str]:
    """All settings as flags, but the secrets."""
    found = ["--listen", config.address]
    for name in BrokerConfig.model_fields.keys() - _NOT_AS_FLAGS:
        value = getattr(config, name)
        if value is True:
            found.append(FLAGS[name])
        elif value is not None and value is not False:
            found += [FLAGS[name], str(value)]
    return found


def _environment(config: BrokerConfig) -> dict[str, str]:
    """Pass secrets by environment, which `ps` does not show; without the variables that they came from."""
    rest = {key: value for key, value in os.environ.items() if key not in _SECRETS}
    token = {"HYREX_TOKEN": config.token} if config.token and config.token_file is None else {}
    replica = {"HYREX_READ_DATABASE_URL": config.read_database_url} if config.read_database_url else {}
    outbox = {"HYREX_OUTBOX_URL": config.outbox_url} if config.outbox_url else {}
    return rest | {"HYREX_DATABASE_URL": config.database_url} | replica | outbox | token


def _end(config: BrokerConfig, children: dict[int, _Child]) -> None:
    for child in children.values():
        child.process.terminate()
    deadline = time.monotonic() + config.drain_timeout_s + 5.0
    for child in children.values():
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


@contextmanager
def _stop_signals() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise _Stopping

    before = {number: signal.signal(number, stop) for number in stop_signals()}
    try:
        yield
    finally:
        # A second signal while the children end must not end this process before them.
        for number in before:
            signal.signal(number, signal.SIG_IGN)
