"""The event loop of Hyrex's own threads and processes: uvloop where it is installed, else asyncio's.

Loops of user code are not touched.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["load", "run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run()."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def load() -> None:
    """Import the loop now: a fork amid a first use in a thread would find the import's locks held."""
    _factory()


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
