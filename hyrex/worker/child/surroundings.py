"""Restores process-wide settings that a run has changed, before the next run sees them.

These are the working directory, the standard streams, the recursion limit, signal handlers and blocked
signals, timers, the umask, resource limits, the garbage collector, the locale, the default timeout of sockets
and the longest text of an integer. What programs may keep for later (imports, the environment, caches,
warning filters) is left as it is.
"""

import functools
import gc
import io
import locale
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from hyrex.worker.shared.description import attempt
from hyrex.worker.shared.logs import warn

# To compare all settings after each run cost a no-op run 3 us, a third of its time in the child. So these
# functions are wrapped, and note that they were called. Changes by other ways (C code) are not noticed.
_CHANGING: Final[tuple[tuple[ModuleType, str], ...]] = (
    (os, "chdir"),
    (os, "fchdir"),
    (signal, "signal"),
    (signal, "setitimer"),
    (signal, "alarm"),
    (signal, "pthread_sigmask"),
    (os, "umask"),
    (resource, "setrlimit"),
    (gc, "disable"),
    (gc, "enable"),
    (locale, "setlocale"),
    (socket, "setdefaulttimeout"),
    (sys, "set_int_max_str_digits"),
)
_TIMERS: Final = {
    signal.ITIMER_REAL: signal.SIGALRM,
    signal.ITIMER_VIRTUAL: signal.SIGVTALRM,
    signal.ITIMER_PROF: signal.SIGPROF,
}
_LIMITS: Final = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_changed: Final = threading.Event()
_OPEN: Final = io.StringIO()


def notice_changes() -> None:
    """Wrap the functions that change process-wide settings. Call it before user code is imported."""
    for module, name in _CHANGING:
        original = getattr(module, name, None)
        if original is not None:
            setattr(module, name, _noticed(original))
            if original in os.supports_fd:
                os.supports_fd.add(getattr(module, name))


def _noticed(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def changing(*args: Any, **kwargs: Any) -> Any:
        _changed.set()
        return original(*args, **kwargs)

    return changing


class Surroundings:
    """The settings as they were before the first run; compared after a run, while no other one goes on."""

    def __init__(self, *signals: int) -> None:
        """Note the settings. Call it in the main thread. `signals` are those that the child itself uses."""
        self._main_thread = threading.get_ident()
        self._directory = _directory()
        self._recursion = sys.getrecursionlimit()
        self._stdout: Any = sys.stdout
        self._stderr: Any = sys.stderr
        self._out, self._err = _file(sys.stdout), _file(sys.stderr)
        numbers = (*signals, *_TIMERS.values(), signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)
        self._handlers = [(number, signal.getsignal(number)) for number in numbers]
        self._timers = [which for which in _TIMERS if not any(signal.getitimer(which))]
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._limits = [(which, resource.getrlimit(which)) for which in _LIMITS]
        self._collects = gc.isenabled()
        self._locale = locale.setlocale(locale.LC_ALL)
        self._socket_timeout = socket.getdefaulttimeout()
        self._digits = sys.get_int_max_str_digits()
        _changed.clear()

    def may_have_changed(self) -> bool:
        """Return True if there may be something to restore."""
        stdout, stderr = self._stdout, self._stderr
        return (
            sys.stdout is not stdout
            or sys.stderr is not stderr
            or sys.getrecursionlimit() != self._recursion
            or _changed.is_set()
            or self._out.closed
            or self._err.closed
        )

    def restore(self) -> None:
        """Restore what has changed; never raises."""
        try:
            self._restore()
        except BaseException as odd:
            warn("cannot restore a process-wide setting that a run has changed", odd)

    def _restore(self) -> None:
        sys.setrecursionlimit(self._recursion)
        self._restore_streams()
        if self._directory and _directory() != self._directory:
            os.chdir(self._directory)
        os.umask(self._umask)
        (gc.enable if self._collects else gc.disable)()
        locale.setlocale(locale.LC_ALL, self._locale)
        socket.setdefaulttimeout(self._socket_timeout)
        sys.set_int_max_str_digits(self._digits)
        self._restore_limits()
        # Only the main thread may set signal handlers; until it has, `_changed` stays set for it.
        if threading.get_ident() == self._main_thread:
            self._restore_handlers()
            _changed.clear()

    def _restore_streams(self) -> None:
        if getattr(self._stdout, "closed", False):
            self._stdout = _reopened(1)
        if getattr(self._stderr, "closed", False):
            self._stderr = _reopened(2)
        sys.stdout, sys.stderr = self._stdout, self._stderr
        self._out, self._err = _file(self._stdout), _file(self._stderr)

    def _restore_handlers(self) -> None:
        for which in self._timers:
            signal.setitimer(which, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._handlers:
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    def _restore_limits(self) -> None:
        for which, (soft, hard) in self._limits:
            now, most = resource.getrlimit(which)
            if now != soft and most == hard:  # a hard limit that was lowered stays
                resource.setrlimit(which, (soft, hard))


def _file(stream: Any) -> Any:
    """The stream if it has `closed`, else one that is never closed: sys.stdout may be any object."""
    return stream if hasattr(stream, "closed") else _OPEN


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return ""


def _reopened(fd: int) -> Any:
    """A new stream on that descriptor; on /dev/null if the descriptor is closed too."""
    options: dict[str, Any] = {"mode": "w", "buffering": 1, "errors": "backslashreplace"}
    return attempt(lambda: open(fd, closefd=False, **options), lambda _: open(os.devnull, **options))
