"""Applies the timeout of a plain function that runs in the test's own thread: raises TaskTimeout in it.

In the main thread a signal raises it, which also ends blocking calls; in other threads the next bytecode
raises it.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from hyrex.errors import TaskTimeout
from hyrex.worker.child.execution import Execution
from hyrex.worker.child.interrupt import INTERRUPT_SIGNAL, forget_interrupt, interrupt
from hyrex.worker.shared.outcome import StopCause

__all__ = ["SenderTimedOut", "call_within_timeout"]

T = TypeVar("T")


def call_within_timeout(execution: Execution, function: Callable[[], T]) -> T:
    """Call the function and return its result; raise TaskTimeout in it when its timeout has passed."""
    if not execution.run.timeout_ns:
        return function()
    one_interrupt = _OneInterrupt(execution)
    if threading.current_thread() is not threading.main_thread():
        return one_interrupt.call(function)
    before = signal.signal(INTERRUPT_SIGNAL, one_interrupt.on_signal)
    one_interrupt.outer = before
    try:
        return one_interrupt.call(function)
    finally:
        signal.signal(INTERRUPT_SIGNAL, before)


class SenderTimedOut(TaskTimeout):
    """Raised in a run when the timeout of its sender, itself a run, has passed."""


class _OneInterrupt:
    """One interrupt, at most, of one call."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._thread_id = threading.get_ident()
        self._running = False
        self._lock = threading.Lock()
        self.outer: object = None  # the handler of the run that sent this one, which may be over first

    def call(self, function: Callable[[], T]) -> T:
        timer = threading.Timer(self._execution.run.timeout_ns / 1e9, self._interrupt)
        timer.daemon = True
        self._running = True
        timer.start()
        try:
            return function()
        finally:
            self._running = False
            timer.cancel()
            with self._lock:
                forget_interrupt()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._running and self._execution.stop is StopCause.TIMEOUT:
            raise TaskTimeout
        if callable(self.outer):
            try:
                self.outer(number, frame)
            except TaskTimeout:
                raise SenderTimedOut from None

    def _interrupt(self) -> None:
        with self._lock:
            if self._running:
                self._execution.stop = StopCause.TIMEOUT
                interrupt(self._thread_id, TaskTimeout)
