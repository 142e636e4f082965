"""Tasks with error handlers that do what no code should."""

import asyncio
import contextlib
import os
import time
from typing import Annotated, Any

from pydantic import BeforeValidator

from hyrex.context import get_hyrex_context
from hyrex.errors import NonRetryable
from hyrex.registry import HyrexRegistry
from tests.integration.worker.bench_app import note

hy = HyrexRegistry()


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
