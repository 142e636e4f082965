"""The behaviours of AGENT.md as Hyrex tasks; CONFORMANCE_TASKS says which names to register."""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

from hyrex import HyrexRegistry, NonRetryable, RetryAfter, get_hyrex_context

EXECUTED = "CONFORMANCE_EXECUTED"
TASKS = "CONFORMANCE_TASKS"


class ConformanceError(Exception):
    """What `fail` raises."""


class ConformanceErrorLater(RetryAfter):
    """The same, with a delay of its own."""


class ConformanceErrorFinal(NonRetryable):
    """The same, never retried."""


def begun() -> dict[str, Any]:
    """Note that this run has begun; who it is."""
    context = get_hyrex_context()
    assert context is not None
    with open(os.environ[EXECUTED], "a") as file:
        file.write(f"{context.task_id}\n")
    return {
        "task_id": str(context.task_id),
        "run_number": context.run_number,
        "attempt_number": context.attempt_number,
    }


async def echo(value: Any = None) -> Any:
    """Return the value."""
    begun()
    return value


async def pair(a: Any, b: Any) -> list[Any]:
    """Return both."""
    begun()
    return [a, b]


async def fail(message: str, retry_delay_ms: int | None = None) -> None:
    """Raise, to be retried."""
    begun()
    if retry_delay_ms is not None:
        raise ConformanceErrorLater(retry_delay_ms / 1000, message)
    raise ConformanceError(message)


async def fail_final(message: str) -> None:
    """Raise, never to be retried."""
    begun()
    raise ConformanceErrorFinal(message)


async def retry_after(delay_ms: int) -> dict[str, int]:
    """Fail once, then complete."""
    run = begun()
    if run["attempt_number"] == 0:
        raise ConformanceErrorLater(delay_ms / 1000, "not yet")
    return {"attempt_number": run["attempt_number"]}


async def sleep(ms: int) -> dict[str, int]:
    """Sleep for a while."""
    begun()
    await asyncio.sleep(ms / 1000)
    return {"slept": ms}


async def attempt() -> dict[str, Any]:
    """Say which run this is."""
    return begun()


async def headers() -> dict[str, str]:
    """Return the headers as the sender gave them."""
    begun()
    context = get_hyrex_context()
    assert context is not None
    return dict(context.headers)


BEHAVIOURS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (echo, pair, fail, fail_final, retry_after, sleep, attempt, headers)
}

app = HyrexRegistry()
for name, behaviour in json.loads(os.environ.get(TASKS, "{}")).items():
    app.task(name=name)(BEHAVIOURS[behaviour])
