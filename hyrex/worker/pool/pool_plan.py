"""What a pool of children is made with: its sizes, and what it calls when something happens."""

from collections.abc import Callable
from dataclasses import dataclass

from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.shared.child_messages import Finished, Progressed
from hyrex.worker.shared.outcome import Ending


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The sizes and limits of a pool. `prefetch` None adapts to the load; a limit of 0 means none."""

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
    """What a pool calls when a run has ended, and when its maximum may have changed."""

    ended: Callable[[HeldLease, Ending], None]
    finished: Callable[[Finished], None]  # runs that returned, and were told nothing meanwhile
    changed: Callable[[], object]  # its maximum may be another now
    progressed: Callable[[Progressed], None] = lambda _: None
