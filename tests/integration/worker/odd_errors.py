"""Tasks with delays, errors, arguments and results that no code should have."""

import math
import os
import sys
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, PlainSerializer

from hyrex.errors import RetryAfter
from hyrex.registry import HyrexRegistry
from tests.integration.worker.bench_app import note

hy = HyrexRegistry()


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
