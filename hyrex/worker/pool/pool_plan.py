"""How a pool of children is made, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.shared.outcome import Ending


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """How a pool is made. `prefetch` None adapts; 0 for the maxima means none."""

    name: str
    asynchronous: bool
    children: int
    slots: int  # of each child
    prefetch: int | None = None
    max_tasks: int = 0
    max_memory_mb: int = 0
    handled: frozenset[str] = frozenset()  # tasks with an error handler


@dataclass(frozen=True, slots=True)
class PoolEvents:
    """Whom a pool tells."""

    ended: Callable[[HeldLease, Ending], None]
    changed: Callable[[], None]  # its maximum may be another now
