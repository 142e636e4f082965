"""Tasks that leave changes behind in their process."""

import contextlib
import decimal
import gc
import io
import locale
import os
import resource
import signal
import socket
import sys
from contextvars import ContextVar

from hyrex.registry import HyrexRegistry
from tests.integration.worker.odd_errors import recurse

hy = HyrexRegistry()


life: ContextVar[str] = ContextVar("life", default="none")
seen: ContextVar[str] = ContextVar("seen", default="nothing")
decimal.getcontext().prec = 40


def see() -> list[object]:
    """What earlier runs have left, and leave something."""
    found = [seen.get(), decimal.getcontext().prec, life.get()]
    seen.set("something")
    decimal.getcontext().prec = 5
    return found


@hy.task
def leave_variables() -> list[object]:
    """Return what was there."""
    return see()


@hy.task
async def aleave_variables() -> list[object]:
    """Return what was there."""
    return see()


@hy.task
def look() -> list[str]:
    """Return what belongs to the whole process."""
    print("can still print")
    with contextlib.suppress(RecursionError):
        recurse(0)
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    alarm = signal.getitimer(signal.ITIMER_REAL)
    os.umask(umask := os.umask(0))
    return [
        *(os.getcwd(), str(sys.getrecursionlimit()), type(sys.stdout).__name__, str(alarm), *handlers),
        *(str(signal.getsignal(signal.SIGCHLD)), str(signal.getitimer(signal.ITIMER_PROF))),
        *(str(signal.pthread_sigmask(signal.SIG_BLOCK, ())), str(gc.isenabled()), str(umask)),
        str(resource.getrlimit(resource.RLIMIT_NOFILE)),
        *(
            locale.setlocale(locale.LC_ALL),
            str(socket.getdefaulttimeout()),
            str(sys.get_int_max_str_digits()),
        ),
    ]


def ring(*_: object) -> None:
    """Strike whoever runs."""
    raise KeyboardInterrupt("an alarm of an earlier run")


@hy.task
def disturb(how: str) -> None:
    """Leave the process otherwise than it was."""
    match how:
        case "directory":
            os.chdir("/")
        case "stdout":
            sys.stdout.close()
        case "stderr":
            sys.stderr.close()
        case "redirected":
            sys.stdout = io.StringIO()
        case "recursion":
            sys.setrecursionlimit(sys.getrecursionlimit() + 5000)
        case "signals":
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
        case "alarm":
            signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        case "deadly alarm":
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        case "profile":
            signal.setitimer(signal.ITIMER_PROF, 30)
        case "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        case "children":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        case "files":
            os.umask(0o777)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        case "collector":
            gc.disable()
        case "locale":
            locale.setlocale(locale.LC_ALL, "C.UTF-8")
        case "sockets":
            socket.setdefaulttimeout(0.001)
        case "digits":
            sys.set_int_max_str_digits(640)
