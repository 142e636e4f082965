"""One child as the stream process sees it: its process, its socket, its ledger and its runs.

Knows how to start a child, give it runs, stop it and notice its death. The pool decides what becomes of
runs that end.
"""

import asyncio
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec

from hyrex.worker.pool.child_socket import ChildSocket
from hyrex.worker.pool.held_block import Held, HeldBlock, together
from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.shared.child_messages import Begin, Finish, FromChild, Give, Stop, TakeBack
from hyrex.worker.shared.child_options import ChildOptions
from hyrex.worker.shared.memory import Ledger, create_fd
from hyrex.worker.shared.options import environment_with
from hyrex.worker.shared.remains import MARK, await_end, end_remains_of
from hyrex.worker.shared.runs import RunBlock, block_of

log = logging.getLogger("hyrex.worker")


class ChildState(Enum):
    """The stages of a child's life."""

    STARTING = auto()  # imports the user's module
    READY = auto()  # takes runs
    RETIRING = auto()  # told to end
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """How to start children: which app they import, and what they inherit."""

    target: str
    worker: str
    trust_fd: int
    most_slots: int  # of any kind of child: the ledger is made before the kind is known
    broker_url: str  # for the tasks that send
    token: str = field(default="", repr=False)
    log_format: str = "text"


@dataclass(frozen=True, slots=True)
class ChildEvents:
    """What is called when a child sends a message, and when it has died."""

    message: Callable[["ChildProcess", FromChild], None]
    died: Callable[["ChildProcess", int], None]


class ChildProcess:
    """A child process and the runs it was given and has not ended."""

    def __init__(self, plan: ChildPlan, events: ChildEvents) -> None:
        """Start the process. Needs a running event loop."""
        self.state = ChildState.STARTING
        self.given: dict[int, Held] = {}  # by token, in the order of their ordinals
        self.slots = 0
        self.fed = 0  # runs given in its whole life
        self.was_ready = False
        self.retiring = False
        self.worn = False  # it is to be replaced
        self.exhausted = False  # it is given no more runs
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
        orders = ChildOptions(plan.target, plan.worker, os.getpid(), *inherited, log_format=plan.log_format)
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
        self.socket = ChildSocket(ours, lambda message: self.events.message(self, message), self._on_garbage)
        threading.Thread(target=self._await_death, name="hyrex-reap", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def begin(self, *, asynchronous: bool, slots: int) -> None:
        """Make it a child of one kind."""
        self.slots = slots
        self.ledger.use(slots)
        self.socket.send(Begin(asynchronous, slots))

    def add_slots(self, change: int) -> None:
        """Have it execute that many more (or fewer) runs at once from now on."""
        self.slots += change
        self.ledger.use_at_least(self.slots)

    def give(self, entries: list[Held]) -> None:
        """Have it execute these runs after those it has."""
        first = self.fed + 1
        self.socket.send(Give(first, [self._enter(held) for held in entries]))

    def _enter(self, held: Held) -> RunBlock:
        held.child = self
        if isinstance(held, HeldLease):
            self.fed += 1
            held.ordinal = self.fed
            self.given[held.run.token] = held
            return block_of(held.run)
        held.ordinals = range(self.fed + 1, self.fed + 1 + len(held))
        held.given_at = time.monotonic()
        self.fed += len(held)
        self.given.update(dict.fromkeys(held.block.tokens, held))
        return held.block

    def unstarted(self) -> list[int]:
        """Tokens of runs that have not started (they may have by the time a message arrives)."""
        return self.parted()[1]

    def started(self) -> list[int]:
        """Tokens of the runs that have started and not ended."""
        return self.parted()[0]

    def parted(self) -> tuple[list[int], list[int]]:
        """Tokens of the runs that have started and not ended, and of those that have not started."""
        through = self.ledger.started_through()
        ordinals: dict[Held, dict[int, int]] = {}
        parts: tuple[list[int], list[int]] = [], []
        for token, held in self.given.items():
            if isinstance(held, HeldLease):
                ordinal = held.ordinal
            else:
                if held not in ordinals:
                    ordinals[held] = dict(zip(held.block.tokens, held.ordinals, strict=True))
                ordinal = ordinals[held][token]
            parts[ordinal > through].append(token)
        return parts

    def lease(self, token: int) -> HeldLease | None:
        """A run that it was given, with a lease of its own from now on; None if it has no such run."""
        held = self.given.get(token)
        if isinstance(held, HeldBlock):
            held = self.given[token] = held.lease(token)
        return held

    def take_out(self, tokens: Iterable[int]) -> list[Held]:
        """These runs are not its own any more."""
        return together([(token, self.given.pop(token)) for token in tokens if token in self.given])

    def let_go(self, older_than_s: float) -> None:
        """Keep nothing of runs that have ended beside one that takes long: their payloads."""
        if not self.given:
            return
        oldest = next(iter(self.given.values()))
        if isinstance(oldest, HeldBlock) and time.monotonic() - oldest.given_at > older_than_s:
            left = [
                (place, token)
                for place, token in enumerate(oldest.block.tokens)
                if self.given.get(token) is oldest
            ]
            if 2 * len(left) <= len(oldest):
                kept = oldest.taking([place for place, _ in left])
                self.given.update(dict.fromkeys(kept.block.tokens, kept))

    def take_back(self, tokens: list[int]) -> None:
        """Ask for runs back; one question at a time."""
        self.taking_back = True
        self.socket.send(TakeBack(tokens))

    def stop(self, order: Stop) -> None:
        """Ask it to stop a run."""
        self.socket.send(order)

    def retire(self) -> None:
        """Have it end once it has no runs left."""
        if self.state is not ChildState.DEAD:
            self.state, self.retiring = ChildState.RETIRING, True
            self.socket.send(Finish())

    def kill(self, blame: HeldLease | None = None) -> None:
        """Kill it. `blame` is the run that is the reason, if it is one."""
        self.killed_for = self.killed_for or blame
        if self.process.poll() is None:
            self.process.kill()

    def _on_garbage(self, error: Exception) -> None:
        log.error("killing child %d: what it sent cannot be decoded (%s)", self.pid, error)
        self.kill()

    def _await_death(self) -> None:
        """Wait for its death, end the processes that user code started in it, and reap it.

        Only then is its death told, since after that its runs may run elsewhere.
        """
        await_end(self.pid)
        end_remains_of(self.pid, self._mark)
        status = self.process.wait()
        try:
            self._loop.call_soon_threadsafe(self._died, status)
        except RuntimeError:  # the loop is closed: the worker has ended
            pass

    def _died(self, status: int) -> None:
        self.socket.read_rest()
        self.socket.close()
        self.state = ChildState.DEAD
        self.events.died(self, status)
        self.ledger.close()


def _pipe_with(text: str) -> int:
    """The reading end of a pipe that holds a text, which must be short enough to fit into the pipe."""
    readable, writable = os.pipe()
    os.write(writable, text.encode())
    os.close(writable)
    return readable
