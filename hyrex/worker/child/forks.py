"""Makes forks that user code starts independent of their child.

User code may fork (multiprocessing does). The fork is the user's process: it does not use the child's socket,
signals have their usual effect on it, and how it ends says nothing about the run in the child.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

_handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
_masks = threading.local()
_forked = False


def handle_here(number: int, handler: Callable[[int, FrameType | None], Any]) -> None:
    """Handle a signal in this process; forks begin with its default handler again."""
    _handlers[number] = handler
    signal.signal(number, handler)


def guard_forks(let_go: Callable[[], None]) -> None:
    """Have every fork call `let_go` and reset the signal handlers that `handle_here` has set."""

    def begin() -> None:
        global _forked
        _forked = True
        for number, handler in _handlers.items():
            if signal.getsignal(number) is handler:  # else user code has set another one
                signal.signal(number, _default(number))
        let_go()
        _unblock()

    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=begin)


def is_fork() -> bool:
    """Return True if this process is a fork of a child."""
    return _forked


def end_if_fork(error: BaseException | None) -> None:
    """End this process if it is a fork, as Python ends a program. Call it after user code."""
    if _forked:
        end_fork(error)


def end_fork(error: BaseException | None) -> NoReturn:
    """End a fork at once, without the exit handlers that it inherited from its parent."""
    status = 1
    try:
        status = _status(error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)


def _status(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _default(number: int) -> Any:
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


def _block() -> None:
    # A signal sent to the fork before its handlers are reset would have no effect: without this,
    # Process.terminate() right after start() did nothing.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)
