"""A child process: imports the user's app and executes the runs that the stream process gives it.

Started as `python -m hyrex.worker.child.main OPTIONS`. It exchanges `shared.child_messages` over an inherited
socket and never imports grpc itself. It also says what the app registers.
"""

import queue
import signal
import sys
import threading

import msgspec

from hyrex.config import entrust_token
from hyrex.context import tell_progress_by
from hyrex.runtime.waiting import install_around_await, install_around_wait
from hyrex.worker.child.async_runner import AsyncRunner
from hyrex.worker.child.contexts import RunContexts
from hyrex.worker.child.forks import end_if_fork, guard_forks, handle_here
from hyrex.worker.child.lifespan import lifespan_entered
from hyrex.worker.child.parent_socket import ParentSocket
from hyrex.worker.child.run_progress import ProgressTeller
from hyrex.worker.child.run_records import mark_records_with_run
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
from hyrex.worker.shared.child_options import BROKEN, MOST_AWAITING, UNUSABLE, ChildOptions
from hyrex.worker.shared.description import describe
from hyrex.worker.shared.logs import configure_logging, write_stderr
from hyrex.worker.shared.memory import Ledger, TrustCell
from hyrex.worker.shared.platform import die_with_parent


class ChildMain:
    """One child, from its import to its end."""

    def __init__(self, options: ChildOptions) -> None:
        """Open the inherited descriptors."""
        self._options = options
        self._socket = ParentSocket(options.socket_fd)
        self._trust = TrustCell(options.trust_fd)
        self._begin: queue.SimpleQueue[Begin] = queue.SimpleQueue()
        self._runner: Runner | None = None
        self._waits: Waits | None = None

    def run(self) -> int:
        """Import the app, say what it registers, execute runs until finished; return the exit status."""
        self._socket.start(self._receive)
        guard_forks(self._let_go)
        carry_context_into_threads()
        try:
            self._run()
        except TargetInvalid as error:
            return self._unusable(str(error))
        except BaseException as error:  # of user code: its import and its lifespan may raise anything
            end_if_fork(error)
            return self._failed(describe(error).traceback)
        self._socket.flush()
        return 0

    def _run(self) -> None:
        target = load_target(self._options.target)
        end_if_fork(None)
        # Now: the user's module may have configured logging itself.
        if self._options.log_format == "json":
            configure_logging(json_of=self._options.worker)
            mark_records_with_run()
        else:
            configure_logging()
        self._socket.send(target.describe())
        begin = self._begin.get()
        contexts = RunContexts()
        runner = self._make_runner(begin, target, contexts)
        loop = runner.loop if isinstance(runner, AsyncRunner) else None
        with lifespan_entered(target.lifespan, loop, contexts.home):
            end_if_fork(None)
            contexts.settle()
            self._runner = runner
            self._socket.send(Ready())
            progress = ProgressTeller(self._socket.send, runner.executions)
            tell_progress_by(progress.tell)
            start_watchdog(runner, self._trust, self._options.parent_pid, progress.flush)
            runner.run()

    def _failed(self, text: str) -> int:
        if self._runner is None:
            return self._unusable(text)
        write_stderr(f"hyrex child: {text.rstrip()}")
        self._socket.flush()
        return BROKEN

    def _make_runner(self, begin: Begin, target: Target, contexts: RunContexts) -> Runner:
        workplace = Workplace(
            socket=self._socket,
            ledger=Ledger(
                self._options.ledger_fd, begin.slots + (MOST_AWAITING if begin.asynchronous else 0)
            ),
            trust=self._trust,
            tasks=target.tasks,
            contexts=contexts,
            worker=self._options.worker,
            slots=begin.slots,
            around=target.around,
        )
        runner = AsyncRunner(workplace) if begin.asynchronous else SyncRunner(workplace)
        loop_thread = threading.get_ident() if begin.asynchronous else None
        self._waits = Waits(self._socket, runner, loop_thread=loop_thread)
        install_around_wait(self._waits.around)
        install_around_await(self._waits.around_await)
        return runner

    def _let_go(self) -> None:
        """Called in a fork of user code, which must use neither the socket nor the runner."""
        self._socket.disown()
        if self._runner is not None:
            self._runner.disown()

    def _unusable(self, text: str) -> int:
        self._socket.send(Unusable(text))
        self._socket.flush()
        return UNUSABLE

    def _receive(self, message: ToChild) -> None:
        """Called by the reader thread with each message of the stream process."""
        runner = self._runner
        match message:
            case Begin():
                self._begin.put(message)
            case _ if runner is None:
                pass
            case Give(first_ordinal, blocks):
                runner.accept(first_ordinal, blocks)
            case TakeBack(tokens):
                runner.take_back(tokens)
            case Stop():
                runner.stop(message)
            case Finish():
                runner.finish()
            case WaitAnswer() if self._waits is not None:
                self._waits.answer(message)


def main() -> None:
    """Run as a child. The only argument is a ChildOptions as JSON."""
    options = msgspec.json.decode(sys.argv[1], type=ChildOptions)
    sys.argv[1:] = []
    notice_changes()
    die_with_parent(options.parent_pid)
    with open(options.token_fd) as pipe:
        entrust_token(pipe.read() or None)
    # The stream process alone decides when a child ends. Handlers that do nothing, since subprocesses of the
    # user would inherit SIG_IGN.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        handle_here(ignored, lambda _signal, _frame: None)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(ChildMain(options).run())


if __name__ == "__main__":
    main()
