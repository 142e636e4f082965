"""Hooks around waits inside a task, blocking ones and awaited ones.

A worker's child installs the hooks, and handles enter them while they wait, so that the worker can lend the
slot of the waiting run to another run.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext

__all__ = ["AroundAwait", "AroundWait", "awaiting", "install_around_await", "install_around_wait", "waiting"]

AroundWait = Callable[[], AbstractContextManager[None]]
AroundAwait = Callable[[], AbstractAsyncContextManager[None]]

_around_wait: AroundWait | None = None
_around_await: AroundAwait | None = None


def install_around_wait(hook: AroundWait | None) -> None:
    """Enter `hook()` around each blocking wait of this process; None removes it."""
    global _around_wait
    _around_wait = hook


def install_around_await(hook: AroundAwait | None) -> None:
    """Enter `hook()` around each awaited wait of this process; None removes it."""
    global _around_await
    _around_await = hook


def waiting() -> AbstractContextManager[None]:
    """The context for a blocking wait. Entering it raises what the hook raises (WouldDeadlock)."""
    return nullcontext() if _around_wait is None else _around_wait()


def awaiting() -> AbstractAsyncContextManager[None]:
    """The context for an awaited wait. Entering it raises what the hook raises (WouldDeadlock)."""
    return nullcontext() if _around_await is None else _around_await()
