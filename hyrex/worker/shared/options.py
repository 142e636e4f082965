"""A worker's options, from the command line or from a program."""

import argparse
import os
import socket
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from hyrex.address import trusted_url
from hyrex.cells import CellRoutes, require_trusted
from hyrex.config import read_settings, usable_token
from hyrex.runtime.metrics_server import address_of
from hyrex.worker.shared.platform import usable_cpus

_LONGEST_PATIENCE_S: Final = 86_400
LOG_FORMATS: Final = ("text", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """A worker's settings. 0 or "" stand for the default; `prefetch` None adapts to the load."""

    target: str
    queues: tuple[str, ...] = ("*",)
    processes: int = 0
    threads: int = 1
    async_processes: int = 1
    async_concurrency: int = 100
    prefetch: int | None = None
    max_tasks_per_child: int = 0
    max_memory_per_child_mb: int = 0
    drain_timeout_s: float = 25.0
    grace_s: float = 5.0
    name: str = ""
    broker_url: str = ""
    token: str = ""
    metrics: str = ""
    log_format: str = "text"
    parent_pid: int = 0  # the worker ends when this process, its parent, is gone

    def __post_init__(self) -> None:
        """Check the values. Raises: ValueError."""
        for field in ("threads", "async_processes", "async_concurrency"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        for field in ("processes", "max_tasks_per_child", "max_memory_per_child_mb"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must not be negative, not {getattr(self, field)}")
        for field in ("drain_timeout_s", "grace_s"):
            if not 0 <= getattr(self, field) <= _LONGEST_PATIENCE_S:
                raise ValueError(
                    f"{field} must be 0 to {_LONGEST_PATIENCE_S} seconds, not {getattr(self, field)}"
                )
        if self.log_format not in LOG_FORMATS:
            raise ValueError(f"log_format must be one of {', '.join(LOG_FORMATS)}, not {self.log_format!r}")
        if self.metrics:
            address_of(self.metrics)
        if self.prefetch is not None and self.prefetch < 0:
            raise ValueError(f"prefetch must be 'auto' or 0 or more, not {self.prefetch}")
        if not self.queues or not all(self.queues):
            raise ValueError("at least one queue pattern is needed, and none may be empty")
        for text in (self.name, *self.queues):
            if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"{text!r} is not valid Unicode, so it cannot be sent to a broker")

    def resolved(self) -> "WorkerOptions":
        """The same options, with defaults filled in from the environment and the machine.

        Raises: ValueError for a token that cannot be read or sent, for an invalid address, and for other
        settings with which the tasks of this worker could not send.
        """
        settings = read_settings(without_token=bool(self.token))
        token = usable_token("--token", self.token) if self.token else settings.token or ""
        cells = settings.cells
        if cells is not None:
            require_trusted(cells, token)  # its tasks send there
        broker_url = self.broker_url or os.environ.get("HYREX_BROKER_URL")
        broker_url = broker_url or (settings.broker_url if cells is None else self._url_by_cells(cells))
        trusted_url(broker_url, token)
        return replace(
            self,
            processes=self.processes or usable_cpus(),
            name=self.name or f"{socket.gethostname()}-{os.getpid()}",
            broker_url=broker_url,
            token=token,
        )

    def _url_by_cells(self, cells: CellRoutes) -> str:
        """The brokers of the cell of all its queues. Raises: ValueError."""
        found = cells.serving(self.queues)
        if len(found) == 1:
            return found[0].url
        listed = "; ".join(f"{cell.url} ({cell.name})" for cell in found)
        raise ValueError(
            f"a worker serves one cell, and by HYREX_CELLS its queues ({', '.join(self.queues)}) belong to "
            f"{len(found)}: say which with --broker-url, and start a worker for each. {listed}"
        )

    @property
    def json_of(self) -> str | None:
        """The name that lines of the log have as JSON; None where they are text."""
        return self.name if self.log_format == "json" else None

    def without_token(self) -> "WorkerOptions":
        """The same options for a command line, which other users can read; the token goes by HYREX_TOKEN."""
        return replace(self, token="")

    def to_json(self) -> str:
        """The options as text, for the next process."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "WorkerOptions":
        """The options from text that `to_json` made."""
        return msgspec.json.decode(text, type=cls)


def environment_with(token: str) -> dict[str, str]:
    """This process's environment with HYREX_TOKEN set, and without HYREX_TOKEN_FILE, its possible source."""
    rest = {key: value for key, value in os.environ.items() if key not in ("HYREX_TOKEN", "HYREX_TOKEN_FILE")}
    return rest | ({"HYREX_TOKEN": token} if token else {})


def _prefetch(text: str) -> int | None:
    return None if text == "auto" else int(text)


def _version() -> str:
    from importlib.metadata import version

    return version("hyrex")


def parse_options(arguments: list[str]) -> WorkerOptions:
    """Parse the options of `python -m hyrex.worker`; exits with a usage message if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m hyrex.worker", description="Run a Hyrex worker.")
    add = parser.add_argument
    add("--version", action="version", version=f"hyrex {_version()}")
    add("target", metavar="module:app", help="where the HyrexApp or HyrexRegistry is")
    add("-q", "--queue", dest="queues", action="append", metavar="PATTERN", help="queues to serve (*)")
    add("-p", "--processes", type=int, default=0, help="processes for sync tasks (usable CPUs)")
    add("-t", "--threads", type=int, default=1, help="threads in each of them (1)")
    add("--async-processes", type=int, default=1, help="processes for async tasks (1)")
    add("--async-concurrency", type=int, default=100, help="async tasks at once in each (100)")
    add("--prefetch", type=_prefetch, default=None, metavar="auto|N", help="most leases ahead of a slot")
    add("--max-tasks-per-child", type=int, default=0, help="replace a child after so many tasks")
    add("--max-memory-per-child", dest="max_memory_per_child_mb", type=int, default=0, metavar="MB")
    add("--drain-timeout", dest="drain_timeout_s", type=float, default=25.0, metavar="SECONDS")
    add("--grace", dest="grace_s", type=float, default=5.0, metavar="SECONDS", help="ask first, then kill")
    add("--name", default="", help="a name for people (host-pid)")
    add("--broker-url", default="", help="HYREX_BROKER_URL; several are separated by commas")
    add("--token", default="", help="`ps` shows it: better by HYREX_TOKEN or HYREX_TOKEN_FILE")
    add(
        "--metrics",
        default="",
        metavar="HOST:PORT",
        help="where Prometheus reads; on loopback without a host",
    )
    add("--log-format", default="text", choices=LOG_FORMATS, help="how lines are logged (text)")
    add("--parent", dest="parent_pid", type=int, default=0, help=argparse.SUPPRESS)
    found = vars(parser.parse_args(arguments))
    found["queues"] = tuple(found["queues"] or ("*",))
    try:
        return WorkerOptions(**found)
    except ValueError as error:
        parser.error(str(error))
