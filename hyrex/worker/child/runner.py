"""The part that both runners share: the runs that wait in a child, and those that it executes.

The reader thread adds, takes back and stops runs at any time. Runs start in the order of their ordinals,
which is why the ledger says exactly which of them have started.
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hyrex.backend.tracing import tracer_here
from hyrex.middleware import Hooks, Middleware
from hyrex.task import HyrexTask
from hyrex.worker.child.around_runs import hooks_of_tasks
from hyrex.worker.child.contexts import RunContexts
from hyrex.worker.child.execution import Execution
from hyrex.worker.child.forks import is_fork
from hyrex.worker.child.parent_socket import ParentSocket
from hyrex.worker.child.queued_block import QueuedBlock
from hyrex.worker.child.run_spans import RunSpans
from hyrex.worker.shared.child_messages import Returned, Settled, Stop
from hyrex.worker.shared.child_options import BROKEN
from hyrex.worker.shared.description import attempt
from hyrex.worker.shared.logs import warn
from hyrex.worker.shared.memory import Ledger, TrustCell
from hyrex.worker.shared.outcome import Ending, StopCause, dropped
from hyrex.worker.shared.runs import RunBlock


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a runner works with."""

    socket: ParentSocket
    ledger: Ledger
    trust: TrustCell
    tasks: Mapping[str, HyrexTask[..., Any]]
    contexts: RunContexts
    worker: str
    slots: int
    around: Mapping[str, Sequence[Middleware]] = field(default_factory=dict)  # by the name of a task


def _ignore(_: BaseException) -> None:
    """Whatever that was, the child ends."""


class Runner:
    """Keeps a child's runs; a subclass executes them."""

    def __init__(self, workplace: Workplace) -> None:
        self._place = workplace
        self._lock = threading.Lock()
        self._pending: dict[int, int] = {}  # token -> ordinal
        self._queue: deque[QueuedBlock] = deque()  # by ordinal; those not pending are skipped
        self._executions: dict[int, Execution] = {}  # by token
        self._finishing = False
        self._around: Mapping[str, Hooks] = {}

    def surround(self) -> bool:
        """Find out what is around the runs of each task. Return False if nothing is."""
        tracer = tracer_here()
        spans = None if tracer is None else RunSpans(tracer)
        self._around = hooks_of_tasks(self._place.tasks, self._place.around, spans)
        return bool(self._around)

    def accept(self, first_ordinal: int, blocks: Iterable[RunBlock]) -> None:
        """Queue runs."""
        with self._lock:
            for block in blocks:
                self._pending.update(zip(block.tokens, count(first_ordinal)))
                self._queue.append(QueuedBlock(block, first_ordinal, self._place.worker))
                first_ordinal += len(block)
        self._wake()

    def take_back(self, tokens: Iterable[int]) -> None:
        """Give back to the stream process those of these runs that have not started."""
        with self._lock:
            found = [token for token in tokens if self._pending.pop(token, None)]
        self._place.socket.send(Returned(found, answer=True))

    def stop(self, order: Stop) -> None:
        """Drop a run that waits, or ask one that runs to stop."""
        with self._lock:
            waiting = self._pending.pop(order.token, None)
            execution = self._executions.get(order.token)
        if waiting:
            self._place.socket.end(Ending(order.token, dropped(order.cause, order.reason)))
        if execution is None or execution.handling:
            return
        if self._note_stop(execution, order.cause, order.reason):
            self._ask(execution)

    def _note_stop(self, execution: Execution, cause: StopCause, reason: str = "") -> bool:
        """Note why a run is to stop. Only who gets True asks it to, so that it is not interrupted twice."""
        with self._lock:
            if execution.stop is not None:
                return False
            execution.ask_to_stop(cause, reason)
            return True

    def finish(self) -> None:
        """End when nothing is left to run."""
        self._finishing = True
        self._wake()

    def executions(self) -> list[Execution]:
        """The executions that run now."""
        with self._lock:
            return list(self._executions.values())

    def disown(self) -> None:
        """Called in a fork of user code, so that it executes no runs."""

    def lent(self, change: int) -> None:
        """Note that so many more (or fewer) slots of this child are lent; called from any thread."""

    def _begin(self, slot: int) -> Execution | None:
        """Start the next run in a free slot. Return None if no run waits, or none may start now."""
        with self._lock:
            return self._next(slot)

    def _next(self, slot: int) -> Execution | None:
        """As _begin, for a caller that holds the lock."""
        queue, pending, place = self._queue, self._pending, self._place
        while queue:
            queued = queue[0]
            at, tokens = queued.next, queued.block.tokens
            token, ordinal = tokens[at], queued.first_ordinal + at
            queued.next = at + 1
            if at + 1 == len(tokens):
                queue.popleft()
            if pending.get(token) != ordinal:  # taken back, perhaps given again since
                continue
            del pending[token]
            if not place.trust.trusted():
                place.socket.send(Returned([token], answer=False))
                continue
            place.ledger.begin(slot, ordinal, token)
            execution = self._executions[token] = Execution(queued, at, token, slot)
            return execution
        return None

    def _end(self, execution: Execution, ending: Ending) -> None:
        """Free the slot of a run, then send its end soon.

        In this order, since what is told may bring the next run, which may end the process: then the ledger
        must not say that this one was running too. If a kill comes in between, the run is lost all the same.
        """
        self._place.ledger.end(execution.slot)
        self._place.socket.end(ending)
        with self._lock:
            del self._executions[execution.token]

    def _hand_over(self, execution: Execution, ending: Ending) -> Execution:
        """Send how the run has ended before its error handler runs, which may do anything to this process."""
        handling = execution.for_handler()
        with self._lock:
            self._executions[execution.token] = handling
        self._place.ledger.restart_clock(
            execution.slot
        )  # before the word: from then on it bounds the handler
        self._place.socket.send(Settled(ending))
        self._place.socket.flush()
        return handling

    def _break_off(self, error: BaseException) -> None:
        """End the child, and so lose its runs, because user code has broken the machinery of this runner."""
        if is_fork():
            raise error
        attempt(lambda: warn("a run broke the machinery of its child; the child ends", error), _ignore)
        attempt(self._place.socket.flush, _ignore)
        os._exit(BROKEN)

    def _wake(self) -> None:
        """Look for runs: some have arrived, or `finish` was called."""
        raise NotImplementedError

    def _ask(self, execution: Execution) -> None:
        """Ask a running execution to stop, for the cause in its `stop`."""
        raise NotImplementedError

    def check(self, now_ns: int) -> None:
        """Called by the watchdog: stop runs whose timeout has passed."""
        raise NotImplementedError

    def run(self) -> None:
        """Execute runs until finished; called in the main thread."""
        raise NotImplementedError
