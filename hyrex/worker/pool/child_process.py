"""One child as the stream process sees it: its process, its socket, its ledger and its runs.

Knows how to start, feed, stop and bury a child; what to do with runs that end is the pool's
business.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec

from hyrex.worker.pool.child_socket import Link
from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.shared.child_messages import Begin, Finish, FromChild, Give, Stop, TakeBack
from hyrex.worker.shared.child_options import ChildOrders
from hyrex.worker.shared.memory import Ledger, create_fd
from hyrex.worker.shared.options import environment_with
from hyrex.worker.shared.remains import MARK, await_end, end_remains_of

log = logging.getLogger("hyrex.worker")


class ChildState(Enum):
    """Where a child stands."""

    STARTING = auto()  # imports the user's module
    READY = auto()  # takes runs
    RETIRING = auto()  # told to end
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """How to start children: what they run and how many runs at once."""

    target: str
    worker: str
    trust_fd: int
    most_slots: int  # of any kind of child: the ledger is made before the kind is known
    broker_url: str  # for the tasks that send
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ChildEvents:
    """Whom a child's news goes to."""

    message: Callable[[ChildProcess, FromChild], None]
    died: Callable[[ChildProcess, int], None]


class ChildProcess:
    """A child process and the runs it was given and has not ended."""

    def __init__(self, plan: ChildPlan, events: ChildEvents) -> None:
        """Start it."""
        self.state = ChildState.STARTING
        self.given: dict[int, HeldLease] = {}
        self.slots = 0
        self.fed = 0  # runs given in its whole life
        self.was_ready = False
        self.retiring = False
        self.worn = False  # a replacement is wanted
        self.exhausted = False  # it is fed no more
        self.slow = False  # each of its slots has a run that takes long: nothing should wait behind them
        self.exclusive = False  # reserved for a run that must be alone
        self.taking_back = False  # a TakeBack is not answered yet
        self.ending_since: float | None = None  # told to end, and nothing left to run
        self.killed_for: HeldLease | None = None
        self.lent: set[int] = set()  # waits that its runs block in, each with a slot
        self.started_at = time.monotonic()
        self.events = events
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ledger_fd = create_fd(Ledger.size_bytes(plan.most_slots))
        self.ledger = Ledger(ledger_fd, plan.most_slots)
        token_fd = _pipe_with(plan.token)
        inherited = (theirs.fileno(), plan.trust_fd, ledger_fd, token_fd)
        orders = ChildOrders(plan.target, plan.worker, os.getpid(), *inherited)
        self._mark = secrets.token_hex(8)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hyrex.worker.child.main", msgspec.json.encode(orders).decode()],
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            env={**environment_with(""), "HYREX_BROKER_URL": plan.broker_url, MARK: self._mark},
            start_new_session=True,
        )
        os.close(token_fd)
        theirs.close()
        os.close(ledger_fd)
        self.link = Link(ours, lambda message: self.events.message(self, message), self._unintelligible)
        threading.Thread(target=self._await_death, name="hyrex-reap", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def begin(self, *, asynchronous: bool, slots: int) -> None:
        """Make it a child of one kind."""
        self.slots = slots
        self.ledger.use(slots)
        self.link.send(Begin(asynchronous, slots))

    def add_slots(self, change: int) -> None:
        """It executes that many more or fewer at once from now on."""
        self.slots += change
        self.ledger.use_at_least(self.slots)

    def give(self, runs: list[HeldLease]) -> None:
        """Have it execute these runs after those it has."""
        first = self.fed + 1
        for ordinal, held in enumerate(runs, first):
            held.child, held.ordinal = self, ordinal
            self.given[held.run.token] = held
        self.fed += len(runs)
        self.link.send(Give(first, [held.run for held in runs]))

    def unstarted(self) -> list[HeldLease]:
        """Runs that have certainly not started (they may have by the time a message arrives)."""
        through = self.ledger.started_through()
        return [held for held in self.given.values() if held.ordinal > through]

    def take_back(self, runs: list[HeldLease]) -> None:
        """Ask for runs back; one question at a time."""
        self.taking_back = True
        self.link.send(TakeBack([held.run.token for held in runs]))

    def stop(self, order: Stop) -> None:
        """Ask it to stop a run."""
        self.link.send(order)

    def retire(self) -> None:
        """Have it end once it has nothing left."""
        if self.state is not ChildState.DEAD:
            self.state, self.retiring = ChildState.RETIRING, True
            self.link.send(Finish())

    def kill(self, blame: HeldLease | None = None) -> None:
        """Kill it, because of that run if one is named."""
        self.killed_for = self.killed_for or blame
        if self.process.poll() is None:
            self.process.kill()

    def _unintelligible(self, error: Exception) -> None:
        log.error("child %d is killed: it does not speak as a child does (%s)", self.pid, error)
        self.kill()

    def _await_death(self) -> None:
        """Reap it after what user code left below it: from then on its runs may go on elsewhere."""
        await_end(self.pid)
        end_remains_of(self.pid, self._mark)
        status = self.process.wait()
        try:
            self._loop.call_soon_threadsafe(self._died, status)
        except RuntimeError:  # the loop is closed: the worker has ended
            pass

    def _died(self, status: int) -> None:
        self.link.drain()
        self.link.close()
        self.state = ChildState.DEAD
        self.events.died(self, status)
        self.ledger.close()


def _pipe_with(text: str) -> int:
    """A descriptor to read it from; it is short, so that it fits."""
    readable, writable = os.pipe()
    os.write(writable, text.encode())
    os.close(writable)
    return readable
