"""The app's lifespan: a context manager, sync or async, entered once in each child."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any


@contextmanager
def lifespan_entered(factory: Any, loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Hold the lifespan open; on `loop` if it is async, else on a loop of its own."""
    if factory is None:
        yield
        return
    manager = factory()
    if isinstance(manager, AbstractContextManager):
        with manager:
            yield
        return
    if not isinstance(manager, AbstractAsyncContextManager):
        raise TypeError(f"lifespan must return a context manager, sync or async, not {manager!r}")
    own = loop or asyncio.new_event_loop()
    own.run_until_complete(manager.__aenter__())
    try:
        yield
    finally:
        own.run_until_complete(manager.__aexit__(None, None, None))
