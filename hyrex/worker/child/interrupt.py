"""Raises an exception in a thread that runs user code.

The main thread gets a signal whose handler raises, which also ends blocking calls. Other threads get an
asynchronous exception, which Python raises between two bytecodes.
"""

import ctypes
import signal
import threading
from collections.abc import Callable
from typing import Final

from hyrex.worker.child.forks import handle_here

INTERRUPT_SIGNAL: Final = getattr(signal, "SIGRTMIN", signal.SIGUSR2) + (
    7 if hasattr(signal, "SIGRTMIN") else 0
)

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exc.restype = ctypes.c_int


def raise_in_main_thread_by(choose: Callable[[], type[BaseException] | None]) -> None:
    """Have the interrupt signal raise what `choose` returns when it arrives; nothing if that is None.

    `choose` runs in the main thread, so it sees exactly what that thread is doing.
    """

    def handler(_signal: int, _frame: object) -> None:
        error = choose()
        if error is not None:
            raise error

    handle_here(INTERRUPT_SIGNAL, handler)


def interrupt(thread_id: int, error: type[BaseException]) -> None:
    """Have a thread raise. The caller must have checked what it runs, without releasing the GIL since."""
    if thread_id == threading.main_thread().ident:
        signal.pthread_kill(thread_id, INTERRUPT_SIGNAL)
    else:
        _set_async_exc(thread_id, error)


class _Forgotten(BaseException):
    """Raised in the place of an interrupt that comes too late."""


def forget_interrupt() -> None:
    """Drop an asynchronous exception of this thread that has not been raised yet.

    Another one takes its place and is raised here. If none were raised, Python would look for it at each call
    from then on, and Python 3.11 would never come back from the first one under a trace or profile function,
    which coverage, debuggers and profilers have.
    """
    try:
        while _set_async_exc(threading.get_ident(), _Forgotten):
            pass
    except _Forgotten:
        pass
