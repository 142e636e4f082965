"""A child process: imports the user's app and runs what the stream process gives it.

Started as `python -m hyrex.worker.child.main`; speaks only `frames` over an inherited socket and
never imports grpc itself. The first child also tells what the app registers.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading

import msgspec

from hyrex.config import entrust_token
from hyrex.runtime.waiting import install_around_await, install_around_wait
from hyrex.worker.child.async_runner import AsyncRunner
from hyrex.worker.child.contexts import RunContexts
from hyrex.worker.child.forks import end_if_fork, guard_forks, handle_here
from hyrex.worker.child.lifespan import lifespan_entered
from hyrex.worker.child.parent_socket import ChildLink
from hyrex.worker.child.runner import Runner, Workplace
from hyrex.worker.child.slot_borrowing import Waits
from hyrex.worker.child.surroundings import notice_changes
from hyrex.worker.child.sync_runner import SyncRunner
from hyrex.worker.child.target import Target, TargetInvalid, load_target
from hyrex.worker.child.threads import carry_context_into_threads
from hyrex.worker.child.watchdog import start_watchdog
from hyrex.worker.shared.child_messages import (
    Begin,
    Finish,
    Give,
    Ready,
    Stop,
    TakeBack,
    ToChild,
    Unusable,
    WaitAnswer,
)
from hyrex.worker.shared.child_options import BROKEN, MOST_AWAITING, UNUSABLE, ChildOrders
from hyrex.worker.shared.description import describe
from hyrex.worker.shared.logs import configure_logging, write_stderr
from hyrex.worker.shared.memory import Ledger, TrustCell
from hyrex.worker.shared.platform import die_with_parent


class ChildMain:
    """One child, from its import to its end."""

    def __init__(self, orders: ChildOrders) -> None:
        """Take over what was inherited."""
        self._orders = orders
        self._link = ChildLink(orders.socket_fd)
        self._trust = TrustCell(orders.trust_fd)
        self._begin: queue.SimpleQueue[Begin] = queue.SimpleQueue()
        self._runner: Runner | None = None
        self._waits: Waits | None = None

    def run(self) -> int:
        """Import, say what there is, run until finished; the exit status."""
        self._link.start(self._receive)
        guard_forks(self._let_go)
        carry_context_into_threads()
        try:
            self._run()
        except TargetInvalid as error:
            return self._unusable(str(error))
        except BaseException as error:  # user code may raise anything: its import, its lifespan
            end_if_fork(error)
            return self._failed(describe(error).traceback)
        self._link.flush()
        return 0

    def _run(self) -> None:
        target = load_target(self._orders.target)
        end_if_fork(None)
        configure_logging()  # after the user's module had its chance
        self._link.send(target.describe())
        begin = self._begin.get()
        contexts = RunContexts()
        runner = self._make_runner(begin, target, contexts)
        loop = runner.loop if isinstance(runner, AsyncRunner) else None
        with lifespan_entered(target.lifespan, loop, contexts.home):
            end_if_fork(None)
            contexts.settle()
            self._runner = runner
            self._link.send(Ready())
            start_watchdog(runner, self._trust, self._orders.parent_pid)
            runner.run()

    def _failed(self, text: str) -> int:
        if self._runner is None:
            return self._unusable(text)
        write_stderr(f"hyrex child: {text.rstrip()}")
        self._link.flush()
        return BROKEN

    def _make_runner(self, begin: Begin, target: Target, contexts: RunContexts) -> Runner:
        workplace = Workplace(
            link=self._link,
            ledger=Ledger(self._orders.ledger_fd, begin.slots + (MOST_AWAITING if begin.asynchronous else 0)),
            trust=self._trust,
            tasks=target.tasks,
            contexts=contexts,
            worker=self._orders.worker,
            slots=begin.slots,
        )
        runner = AsyncRunner(workplace) if begin.asynchronous else SyncRunner(workplace)
        loop_thread = threading.get_ident() if begin.asynchronous else None
        self._waits = Waits(self._link, runner, loop_thread=loop_thread)
        install_around_wait(self._waits.around)
        install_around_await(self._waits.around_await)
        return runner

    def _let_go(self) -> None:
        """Called in a fork of user code: neither link nor runner are its own."""
        self._link.disown()
        if self._runner is not None:
            self._runner.disown()

    def _unusable(self, text: str) -> int:
        self._link.send(Unusable(text))
        self._link.flush()
        return UNUSABLE

    def _receive(self, message: ToChild) -> None:
        """Called by the reader thread."""
        runner = self._runner
        match message:
            case Begin():
                self._begin.put(message)
            case _ if runner is None:
                pass
            case Give(first_ordinal, runs):
                runner.accept(first_ordinal, runs)
            case TakeBack(tokens):
                runner.take_back(tokens)
            case Stop():
                runner.stop(message)
            case Finish():
                runner.finish()
            case WaitAnswer() if self._waits is not None:
                self._waits.answer(message)


def main() -> None:
    """Run as a child. The only argument is a ChildOrders as JSON."""
    orders = msgspec.json.decode(sys.argv[1], type=ChildOrders)
    sys.argv[1:] = []
    notice_changes()
    die_with_parent(orders.parent_pid)
    with open(orders.token_fd) as pipe:
        entrust_token(pipe.read() or None)
    # Handlers, not SIG_IGN, which the user's own subprocesses would inherit. The stream process
    # alone decides when a child ends.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        handle_here(ignored, lambda _signal, _frame: None)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(ChildMain(orders).run())


if __name__ == "__main__":
    main()
