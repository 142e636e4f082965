"""Apps whose lifespan cannot be entered; an app whose construction fails is made when it is asked for."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from hyrex.app import HyrexApp
from hyrex.registry import HyrexRegistry

hy = HyrexRegistry()


@hy.task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@hy.task
async def aadd(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


def connect() -> None:
    """There is nothing to connect to."""
    raise ConnectionError("no database for the lifespan")


@contextmanager
def _fail(app: HyrexApp) -> Iterator[None]:
    connect()
    yield


@asynccontextmanager
async def _fail_async(app: HyrexApp) -> AsyncIterator[None]:
    connect()
    yield


def _exit(app: HyrexApp) -> Any:
    sys.exit("the lifespan ends the process")


def _nothing(app: HyrexApp) -> Any:
    return None


def _no_argument() -> Any:
    return None


@contextmanager
def _never_yield(app: HyrexApp) -> Iterator[None]:
    if not app.tasks:
        yield


def _made(lifespan: Any) -> HyrexApp:
    app = HyrexApp("odd", lifespan=lifespan)
    app.add_registry(hy)
    return app


fail, fail_async, leave = _made(_fail), _made(_fail_async), _made(_exit)
nothing, no_argument, never_yield = _made(_nothing), _made(_no_argument), _made(_never_yield)


def __getattr__(name: str) -> HyrexApp:
    if name == "generator":
        return _made(_fail.__wrapped__)  # type: ignore[attr-defined]  # the decorator was forgotten
    if name == "number":
        return _made(42)
    raise AttributeError(name)
