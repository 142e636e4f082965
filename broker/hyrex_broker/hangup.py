"""SIGHUP stops a broker with a terminal, since the terminal was closed, and does nothing without one.

Without a terminal, people send SIGHUP to have a service read its files again. A broker has none to read, and
must not end because of it.
"""

import signal
import sys
from typing import Final

_HANGUP: Final = getattr(signal, "SIGHUP", None)  # not on Windows


def ignore_without_terminal() -> None:
    """Ignore SIGHUP if standard input is no terminal; brokers started from this process inherit that."""
    if _HANGUP is not None and not (sys.stdin and sys.stdin.isatty()):
        signal.signal(_HANGUP, signal.SIG_IGN)


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a broker to drain and stop."""
    if _HANGUP is None or signal.getsignal(_HANGUP) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, _HANGUP
