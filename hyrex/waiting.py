"""Blocking waits inside a task, and who wants to know of them.

A worker's child installs a hook here; handles enter it while they block, so that the worker can
lend the slot of the waiting run to another.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

__all__ = ["AroundWait", "install_around_wait", "waiting"]

AroundWait = Callable[[], AbstractContextManager[None]]

_around_wait: AroundWait | None = None


def install_around_wait(hook: AroundWait | None) -> None:
    """Enter `hook()` around each blocking wait of this process; None removes it."""
    global _around_wait
    _around_wait = hook


def waiting() -> AbstractContextManager[None]:
    """What a blocking wait enters; raises what the hook raises (WouldDeadlock)."""
    return nullcontext() if _around_wait is None else _around_wait()
