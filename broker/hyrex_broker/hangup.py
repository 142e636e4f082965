"""What SIGHUP means to a broker: its terminal has gone, or nothing at all.

Without a terminal it is what people send to make a service read its files anew. A broker has none to read,
and must not end for it. With a terminal it is the same wish as Ctrl-C.
"""

import signal
import sys
from typing import Final

_HANGUP: Final = getattr(signal, "SIGHUP", None)  # not on Windows


def ignore_without_terminal() -> None:
    """Let SIGHUP do nothing where standard input is no terminal; brokers started from here inherit that."""
    if _HANGUP is not None and not (sys.stdin and sys.stdin.isatty()):
        signal.signal(_HANGUP, signal.SIG_IGN)


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a broker to drain and stop."""
    if _HANGUP is None or signal.getsignal(_HANGUP) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, _HANGUP
