"""Middleware that a test makes, and registries with nothing else around their tasks."""

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from hyrex import HyrexRegistry, Middleware, RunInfo, TaskCall, send_many_async


class Plain(Middleware):
    """Does nothing; what a test replaces makes it do something."""

    def around_run(self, run: RunInfo, /) -> AbstractContextManager[object]:
        return nullcontext()


def alone(middleware: Middleware) -> HyrexRegistry:
    """A registry with nothing else around its tasks."""
    registry = HyrexRegistry()
    registry.middleware(middleware)
    return registry


def around(run: Any) -> Middleware:
    """One whose around_run is this generator."""
    return type("Made", (Plain,), {"around_run": contextmanager(run)})()  # type: ignore[no-any-return]


def made(name: str, method: Any) -> Middleware:
    """One with this method."""
    return type("Odd", (Middleware,), {name: method})()  # type: ignore[no-any-return]


async def send_all_async(calls: list[TaskCall[Any]]) -> None:
    """What asyncio.run can be given."""
    await send_many_async(calls)
