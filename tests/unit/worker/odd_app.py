"""Tasks whose code does to its process and its errors what no code should. They write to $BENCH_JOURNAL."""

import asyncio
import contextlib
import decimal
import gc
import io
import locale
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, PlainSerializer

from hyrex.app import HyrexApp
from hyrex.context import get_hyrex_context
from hyrex.errors import NonRetryable, RetryAfter
from hyrex.registry import HyrexRegistry
from tests.unit.worker.bench_app import note

life: ContextVar[str] = ContextVar("life", default="none")


@contextlib.asynccontextmanager
async def lifespan(app: HyrexApp) -> AsyncIterator[None]:
    """Set a variable for all runs, within what only one task may enter and leave."""
    async with asyncio.timeout(None), asyncio.TaskGroup():
        life.set("entered")
        yield


hy = HyrexRegistry()
app = HyrexApp("odd", lifespan=lifespan)
app.add_registry(hy)


@hy.task
def add(a: int, b: int) -> int:
    """Run beside the others, and return the sum."""
    return a + b


@hy.task
async def aadd(a: int, b: int) -> int:
    """Run beside the others, and return the sum."""
    return a + b


# Delays.


class Later(RetryAfter):
    """Says anything as its delay."""

    def __init__(self, seconds: Any) -> None:
        Exception.__init__(self, "later")
        self.seconds = seconds


class Never(RetryAfter):
    """Says no delay at all."""

    def __init__(self) -> None:
        Exception.__init__(self, "never")


class Twisted(float):
    """A number that is none."""

    def __float__(self) -> float:
        raise SystemExit("no number")


DELAYS: dict[str, Any] = {
    "inf": math.inf,
    "nan": math.nan,
    "huge": 1e30,
    "digits": 10**400,
    "text": "soon",
    "negative": -1,
    "none": None,
    "twisted": Twisted(3),
}


@hy.task(retry_backoff=7)
def fail_later(how: str) -> None:
    """Raise a RetryAfter that cannot be obeyed."""
    if how == "missing":
        raise Never
    raise Later(DELAYS[how])


def odd_backoff(number: int) -> Any:
    """Give no delay."""
    if number == 1:
        sys.exit("no delay")
    return [None, None, math.nan, "soon", math.inf, -3, 10**400][number]


@hy.task(retry_backoff=odd_backoff)
def fail_with_odd_backoff() -> None:
    """Raise."""
    raise ValueError("odd")


# Errors.


class Silent(Exception):
    """Ends its process when it is shown."""

    def __str__(self) -> str:
        raise SystemExit(5)

    __repr__ = __str__


class Hollow(Exception):
    """Is not initialised."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"{self.code} {self.reason}"  # type: ignore[attr-defined]  # that is what is wrong with it


class Veiled(Exception):
    """Hides what it is and where it was raised."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise KeyboardInterrupt

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt

    def __bool__(self) -> bool:
        raise KeyboardInterrupt


class Dying(Exception):
    """Ends its process when nobody needs it any more."""

    def __del__(self) -> None:
        raise SystemExit(8)


class OddText(str):
    """Text of which nothing can be made."""

    def _refuse(self, *args: object) -> Any:
        raise GeneratorExit

    encode = __getitem__ = __len__ = replace = __str__ = __format__ = _refuse  # type: ignore[assignment]


class Worded(Exception):
    """Says what is no plain text."""

    def __str__(self) -> str:
        return OddText("odd words")


class OddKind(type):
    """Hides the names of its classes."""

    @property
    def __name__(cls) -> Any:  # type: ignore[override]
        raise SystemExit


class Nameless(Exception, metaclass=OddKind):
    """Has a name that cannot be asked for."""


class Unaskable(type):
    """Does not say what belongs to its classes."""

    def __subclasscheck__(cls, other: type) -> bool:
        raise SystemExit


class Unwanted(Exception, metaclass=Unaskable):
    """Nobody knows whether an error is one."""


def odd_syntax() -> SyntaxError:
    """A SyntaxError of which no field is what it should be."""
    error = SyntaxError("syntax")
    error.lineno, error.text, error.offset, error.filename = object(), 7, "x", object()  # type: ignore[assignment]
    return error


def circle() -> Exception:
    """An error that is the cause of its cause."""
    first, second = ValueError("circle"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def chain() -> Exception:
    """An error with more causes than a stack is deep."""
    error: Exception = ValueError("first")
    for number in range(20_000):
        following = ValueError("chain" if number == 19_999 else "link")
        following.__context__ = error
        error = following
    return error


def recurse(depth: int) -> int:
    """Never return."""
    return recurse(depth + 1)


ERRORS: dict[str, Any] = {
    "silent": Silent,
    "hollow": lambda: Hollow(3),
    "veiled": lambda: Veiled("veiled"),
    "worded": Worded,
    "dying": lambda: Dying("dying"),
    "nameless": lambda: Nameless("nameless"),
    "syntax": odd_syntax,
    "circle": circle,
    "chain": chain,
    "group": lambda: BaseExceptionGroup("group", [Silent(), KeyboardInterrupt(), circle()]),
    "surrogate": lambda: ValueError("\ud800\0"),
    "large": lambda: ValueError("x" * 50_000_000),
    "stop": lambda: StopIteration("stop"),
    "generator": lambda: GeneratorExit("generator"),
    "interrupt": lambda: KeyboardInterrupt("interrupt"),
    "exit": lambda: SystemExit(0),
    "memory": lambda: MemoryError("memory"),
}


@hy.task(no_retry_on=(Silent, Unwanted))
def raise_odd(how: str) -> None:
    """Raise what can hardly be described."""
    if how == "recursion":
        recurse(0)
    raise ERRORS[how]()


@hy.task
async def araise_odd(how: str) -> None:
    """Raise what can hardly be described."""
    if how == "recursion":
        recurse(0)
    raise ERRORS[how]()


# Arguments and results.


def leave(value: object) -> Any:
    """Validate, or serialise, by ending the process."""
    if value == "silent":
        raise Silent
    sys.exit(6)


Strict = Annotated[str, BeforeValidator(leave)]
Mute = Annotated[str, PlainSerializer(leave)]


class Report(BaseModel):
    """A result that ends the process when it is stored."""

    text: Mute


@hy.task
def decode(text: Strict) -> None:
    """Never reached."""
    note("decoded")


@hy.task
async def adecode(text: Strict) -> None:
    """Never reached."""
    note("decoded")


@hy.task
def encode(text: str) -> Report:
    """Return what ends the process."""
    return Report(text=text)


@hy.task
async def aencode(text: str) -> Report:
    """Return what ends the process."""
    return Report(text=text)


@hy.task
def forget_await() -> object:
    """Return a coroutine that nobody awaits."""
    return aadd.function(1, 2)


@hy.task
def scribble() -> None:
    """Write into whatever descriptor there is."""
    for fd in range(3, 32):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                os.write(fd, b"\x05\x00\x00\x00hello")
        except OSError:
            continue


# What a run may do to the loop that it shares.


async def part(error: BaseException) -> None:
    """A part of a run that ends so."""
    await asyncio.sleep(0)
    raise error


async def for_long() -> None:
    """Wait longer than any test."""
    note("for long")
    await asyncio.sleep(600)


def noted(text: str) -> bool:
    """Return True if somebody has noted the text."""
    return text in Path(os.environ["BENCH_JOURNAL"]).read_text().split()


@hy.task
async def linger(text: str) -> str:
    """Wait beside the others until somebody notes the text."""
    note("linger")
    await asyncio.gather(until_noted(text), until_noted(text))
    return text


async def until_noted(text: str) -> None:
    """A part of it."""
    while not noted(text):
        await asyncio.sleep(0.02)


@hy.task
async def exit_in_gather() -> None:
    """End the process in a part that is awaited."""
    await asyncio.gather(part(SystemExit(4)), for_long())


@hy.task
async def interrupt_in_group() -> None:
    """End the process in a task group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(part(KeyboardInterrupt()))
        group.create_task(for_long())


@hy.task
async def exit_in_background() -> None:
    """End the process in a part that nobody awaits."""
    task = asyncio.create_task(part(SystemExit(4)))
    await for_long()
    await task


@hy.task
async def exit_in_callback() -> None:
    """End the process in a callback."""
    asyncio.get_running_loop().call_soon(sys.exit, 4)
    await for_long()


@hy.task
async def exit_and_return() -> str:
    """Hide that a part has ended the process."""
    task = asyncio.create_task(part(SystemExit(4)))
    while not task.done():
        await asyncio.sleep(0)
    return "well"


@hy.task
async def stop_loop() -> None:
    """Stop everything."""
    with contextlib.suppress(Exception):
        asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


@hy.task
async def stop_loop_later() -> None:
    """Stop everything from a callback."""
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.stop)
    await for_long()


@hy.task
async def stop_loop_by_thread() -> None:
    """Stop everything from a thread."""
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(loop.call_soon_threadsafe, loop.stop)
    await for_long()


@hy.task
async def block_in_background() -> None:
    """Block everybody in a part that nobody awaits."""
    task = asyncio.create_task(block())
    await for_long()
    await task


async def block() -> None:
    """Block the loop."""
    time.sleep(600)  # noqa: ASYNC251  # that is what is wrong with it


@hy.task
async def close_loop() -> None:
    """Close everything."""
    asyncio.get_running_loop().close()


@hy.task
async def exit_in_handler() -> None:
    """End the process where errors are handled."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: sys.exit(4))
    loop.call_soon(lambda: 1 / 0)
    await for_long()


@hy.task
async def cancel_everybody() -> None:
    """Do what a program does at its end."""
    for task in asyncio.all_tasks():
        task.cancel()
    await for_long()


@hy.task
async def raise_cancelled() -> None:
    """Say that it was cancelled."""
    raise asyncio.CancelledError("by myself")


@hy.task
async def deafen_loop() -> None:
    """Take away what the loop is woken by."""
    loop = asyncio.get_running_loop()
    for fd in range(3, 64):
        with contextlib.suppress(Exception):
            loop.remove_reader(fd)
    await for_long()


@hy.task
async def break_call_soon() -> None:
    """Have nothing be begun any more."""
    asyncio.get_running_loop().call_soon = lambda *_args, **_kwargs: 1 / 0  # type: ignore[method-assign, assignment]


@hy.task
def break_locks() -> None:
    """Have nothing be begun any more."""
    threading.Lock = None  # type: ignore[assignment]


@hy.task
async def break_factory() -> None:
    """Have no task be made any more."""
    asyncio.get_running_loop().set_task_factory(lambda *_args, **_kwargs: 1 / 0)  # type: ignore[arg-type]


# What a run may leave behind in its process.

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


# Error handlers.


def hear(error: BaseException) -> None:
    """Note what is heard."""
    context = get_hyrex_context()
    note(f"heard {type(error).__name__} in {context.task_name if context else None}")


async def hear_async(error: BaseException) -> None:
    """Note what is heard."""
    hear(error)


async def hear_for_long(error: BaseException) -> None:
    """Take long over it."""
    note("listens")
    await asyncio.sleep(600)


def hear_slowly(error: BaseException) -> None:
    """Take long over it."""
    note("listens")
    time.sleep(600)


def hear_for_ever(error: BaseException) -> None:
    """Take long over it, whatever anybody says."""
    note("listens")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def hear_and_leave(error: BaseException) -> None:
    """End the process over it."""
    note("listens")
    os._exit(9)


@hy.task(on_error=hear)
def handled(text: Annotated[str, BeforeValidator(lambda v: 1 / 0 if v == "bad" else v)]) -> Any:
    """End badly in some way that is no error of the function."""
    match text:
        case "unstorable":
            return object()
        case "oversized":
            return "x" * 5_000_000
        case "stubborn":
            note("stubborn")
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(600)


@hy.task(on_error=hear_async)
async def ahandled(text: Annotated[str, BeforeValidator(lambda v: 1 / 0 if v == "bad" else v)]) -> Any:
    """End badly in some way that is no error of the function."""
    return handled.function(text)


@hy.task(on_error=hear_slowly)
def fail_and_dwell() -> None:
    """Fail for good, with a slow handler."""
    raise NonRetryable("for good")


@hy.task(on_error=hear_for_ever)
def fail_and_dwell_for_ever() -> None:
    """Fail for good, with a handler that never ends."""
    raise NonRetryable("for good")


@hy.task(on_error=hear_and_leave)
def fail_and_leave() -> None:
    """Fail for good, with a handler that ends the process."""
    raise NonRetryable("for good")


@hy.task(on_error=hear_for_long)
async def afail_and_dwell() -> None:
    """Fail for good, with a slow handler."""
    raise NonRetryable("for good")


@hy.task(on_error=hear_slowly)
async def afail_and_block() -> None:
    """Fail for good, with a handler that blocks the loop."""
    raise NonRetryable("for good")
