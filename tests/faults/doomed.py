"""Brokers that kill themselves at a named point, for tests. No code of the broker knows of it: what runs here
wraps the statements of the storage, and then runs `hyrex_broker` as it is.

A point is what a loop of the broker has just done: `Sweep.run: follow.dead_seats` is the answer to that
statement, `BulkOperations.run: before commit` the end of a transaction whose statements have all been
answered. The bare `cancel.cancel` is the answer to that statement, whoever made it. A statement outside of a
transaction is committed when it is answered; while it is under way its server ends it or rolls it back, which
is as if the broker had been killed after it, or before.

They are forked from a process that has imported a broker, so each costs little more than its connections.
"""

import asyncio
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import grpc

from hyrex_broker import __main__ as program
from hyrex_broker import app as _imported_before_the_fork  # noqa: F401
from hyrex_broker.engine import bulk
from hyrex_broker.loops import rerun_if_it_fails
from hyrex_broker.storage import brokers
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import NAMES
from tests.support.eventually import eventually

PORTION: Final = 10
"""Of a bulk operation, so that few tasks make many transactions."""
ENDED_WITHIN_S: Final = 60.0
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


@dataclass
class Doomed:
    """A broker that runs until it comes by its point; without one, until it is killed."""

    directory: Path
    point: str | None = None
    knows: tuple[str, ...] | None = None
    """The features that it knows, as a broker of an earlier version; None: all."""
    process: ForkServerProcess = field(init=False)

    def start(self, *arguments: str) -> None:
        """Start it; it may be dead before it is ready."""
        self.directory.mkdir()
        self.process = _FORKS.Process(
            target=_run, args=(str(self.directory), self.point, self.knows, list(arguments)), daemon=True
        )
        self.process.start()

    @property
    def output(self) -> str:
        """What it has printed."""
        path = self.directory / "output"
        return path.read_text() if path.exists() else ""

    @property
    def passed(self) -> set[str]:
        """The points that it has come by."""
        return set((self.directory / "points").read_text().splitlines())

    def url(self) -> str:
        """Wait until it is ready; what clients connect to. Raises RpcError if it was killed before."""
        ready = r"broker ready: listening on (\S+:\d+)"
        eventually(lambda: re.search(ready, self.output) or not self.process.is_alive())
        found = re.search(ready, self.output)
        if found is None:
            raise grpc.RpcError(f"the broker was killed before it was ready\n{self.output}")
        return f"grpc://{found[1]}"

    def require_killed(self) -> None:
        """Wait until it has killed itself."""
        assert self.wait() == -signal.SIGKILL, f"never came by {self.point}\n{self.output}"

    def wait(self) -> int | None:
        """Wait until it has ended by itself; its exit status."""
        self.process.join(ENDED_WITHIN_S)
        return self.process.exitcode

    def stop(self) -> int | None:
        """Have it end in order; its exit status."""
        self.process.terminate()
        return self.wait()

    def end(self) -> None:
        """Kill it, wherever it is."""
        if hasattr(self, "process"):
            self.process.kill()
            self.process.join(ENDED_WITHIN_S)


def _run(directory: str, point: str | None, knows: tuple[str, ...] | None, arguments: list[str]) -> None:
    """A broker's process."""
    output = os.open(f"{directory}/output", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    points = os.open(f"{directory}/points", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for name in [each for each in os.environ if each.startswith("HYREX_")]:
        del os.environ[name]
    known = set[str]()

    def come_by(step: str) -> None:
        here = f"{_loop()}: {step}"
        if here not in known:
            known.add(here)
            os.write(points, f"{here}\n".encode())
        if point in (here, step):
            os.kill(os.getpid(), signal.SIGKILL)

    wrap_statements(come_by)
    if knows is not None:
        brokers.FEATURES = knows  # type: ignore[attr-defined, assignment]
    bulk.PORTION = PORTION  # type: ignore[misc]
    sys.exit(program.main(arguments))


def _name(sql: str) -> str:
    return NAMES.get(sql) or " ".join(sql.split()[:3])


def _loop() -> str:
    """The outermost function of the asyncio task that runs now, below what runs a loop again."""
    task = asyncio.current_task()
    if task is None:
        return ""
    outermost, frame, inner = getattr(task.get_coro(), "cr_code", None), sys._getframe(), ""
    while frame.f_code is not outermost and frame.f_back is not None:
        inner, frame = frame.f_code.co_qualname, frame.f_back
    return inner if frame.f_code is rerun_if_it_fails.__code__ else frame.f_code.co_qualname


def wrap_statements(come_by: Callable[[str], None]) -> None:
    """Have every statement of this process, and every commit of several, told."""
    answered, transaction = Database._repeated, Database.transaction
    fetch, execute = Transaction.fetch, Transaction.execute

    async def alone(self: Database, pool: Any, sql: str, speak: Any) -> Any:
        answer = await answered(self, pool, sql, speak)
        come_by(_name(sql))
        return answer

    async def fetch_within(self: Transaction, sql: str, *args: object) -> Any:
        rows = await fetch(self, sql, *args)
        come_by(_name(sql))
        return rows

    async def execute_within(self: Transaction, sql: str, *args: object) -> str:
        tag = await execute(self, sql, *args)
        come_by(_name(sql))
        return tag

    @asynccontextmanager
    async def committed(self: Database, *, read: bool = False) -> AsyncIterator[Transaction]:
        async with transaction(self, read=read) as statements:
            yield statements
            come_by("before commit")
        come_by("after commit")

    Database._repeated = alone  # type: ignore[method-assign]
    Database.transaction = committed  # type: ignore[method-assign]
    Transaction.fetch = fetch_within  # type: ignore[method-assign]
    Transaction.execute = execute_within  # type: ignore[method-assign]
