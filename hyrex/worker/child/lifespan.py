"""The app's lifespan: a context manager, sync or async, entered once in each child."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from contextvars import Context
from typing import Any


@contextmanager
def lifespan_entered(factory: Any, loop: asyncio.AbstractEventLoop | None, home: Context) -> Iterator[None]:
    """Keep the lifespan entered, in the context `home`. An async one runs on `loop`, or on its own loop."""
    if factory is None:
        yield
        return
    manager = home.run(factory)
    if isinstance(manager, AbstractContextManager):
        home.run(manager.__enter__)
        try:
            yield
        finally:
            home.run(manager.__exit__, None, None, None)
        return
    if not isinstance(manager, AbstractAsyncContextManager):
        raise TypeError(
            f"lifespan must return a context manager, sync or async, not {manager!r}; "
            "decorate it with @contextlib.contextmanager or @contextlib.asynccontextmanager"
        )
    with _held(manager, loop or asyncio.new_event_loop(), home):
        yield


@contextmanager
def _held(
    manager: AbstractAsyncContextManager[Any], loop: asyncio.AbstractEventLoop, home: Context
) -> Iterator[None]:
    """Enter and leave it in one asyncio task, as task groups and cancel scopes require."""
    entered, leave = loop.create_future(), asyncio.Event()

    async def hold() -> None:
        async with manager:
            entered.set_result(None)
            await leave.wait()

    holder = asyncio.Task(hold(), loop=loop, name="hyrex-lifespan", context=home)
    loop.run_until_complete(asyncio.wait({holder, entered}, return_when=asyncio.FIRST_COMPLETED))
    if holder.done():
        holder.result()  # raises what entering raised
    try:
        yield
    finally:
        leave.set()
        loop.run_until_complete(holder)
