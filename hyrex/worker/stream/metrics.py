"""What a worker shows to Prometheus; the stream process serves it, since it outlives whatever tasks do.

docs/reference/metrics.md lists the names.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hyrex.runtime.histogram import RUN_BOUNDS_US, Histogram
from hyrex.runtime.metrics_server import address_of, serve_metrics
from hyrex.worker.pool.pool import Pool
from hyrex.worker.shared.outcome import (
    Cancelled,
    Completed,
    Ending,
    Expired,
    Failed,
    Lost,
    Outcome,
    Released,
    TimedOut,
)

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_SNAPSHOT_WITHIN_S: Final = 5.0
_NAMES: Final[dict[type[Outcome], str]] = {
    Completed: "completed",
    Failed: "failed",
    TimedOut: "timed_out",
    Cancelled: "cancelled",
    Expired: "cancelled",
    Released: "released",
    Lost: "lost",
}


@dataclass(slots=True)
class RunCounts:
    """Runs that ended here, as plain integers: counted whether or not anybody reads them."""

    by_outcome: Counter[str] = field(default_factory=Counter)
    time: Histogram = field(default_factory=lambda: Histogram(RUN_BOUNDS_US))

    def completed(self, elapsed_us: Sequence[int]) -> None:
        """Count runs that returned."""
        if elapsed_us:
            self.by_outcome["completed"] += len(elapsed_us)
            self.time.add_all(elapsed_us)

    def ended(self, ending: Ending) -> None:
        """Count one run."""
        self.by_outcome[_NAMES[type(ending.outcome)]] += 1
        if ending.elapsed_ns is not None:
            self.time.add(ending.elapsed_ns // 1000)


@dataclass(frozen=True, slots=True)
class PoolNumbers:
    """One pool at one moment."""

    slots: int
    busy: int
    fetched_ahead: int
    children: int
    started: int
    died: int


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """Read in the thread of a scrape; the pools are looked at in the event loop, which changes them."""

    loop: asyncio.AbstractEventLoop
    name: str
    pools: Mapping[str, Pool]
    runs: RunCounts
    is_connected: Callable[[], bool]

    def collect(self) -> "Iterator[Metric]":
        """All metrics as they are now."""
        from hyrex.runtime.metric_families import counter, gauge, histogram

        asked = asyncio.run_coroutine_threadsafe(self._numbers(), self.loop)
        pools = asked.result(_SNAPSHOT_WITHIN_S).items()
        yield gauge("hyrex_worker_info", "The worker, by its labels.", ("name",), [((self.name,), 1)])
        yield gauge(
            "hyrex_worker_connected", "1 while a broker serves it.", (), [((), float(self.is_connected()))]
        )
        yield gauge(
            "hyrex_worker_slots", "Runs that it executes at once.", ("pool",),
            [((pool,), each.slots) for pool, each in pools],
        )  # fmt: skip
        yield gauge(
            "hyrex_worker_slots_busy", "Runs that it executes now.", ("pool",),
            [((pool,), each.busy) for pool, each in pools],
        )  # fmt: skip
        yield gauge(
            "hyrex_worker_fetched_ahead", "Runs that wait here for a slot.", ("pool",),
            [((pool,), each.fetched_ahead) for pool, each in pools],
        )  # fmt: skip
        yield gauge(
            "hyrex_worker_children", "Child processes.", ("pool",),
            [((pool,), each.children) for pool, each in pools],
        )  # fmt: skip
        yield counter(
            "hyrex_worker_children_started", "Child processes started.", ("pool",),
            [((pool,), each.started) for pool, each in pools],
        )  # fmt: skip
        yield counter(
            "hyrex_worker_children_died", "Child processes that ended unasked, or were killed.", ("pool",),
            [((pool,), each.died) for pool, each in pools],
        )  # fmt: skip
        yield counter(
            "hyrex_worker_runs_ended", "Runs that ended here.", ("outcome",),
            [((outcome,), count) for outcome, count in dict(self.runs.by_outcome).items()],
        )  # fmt: skip
        yield histogram("hyrex_worker_run_seconds", "How long they took.", (), [((), self.runs.time)])

    async def _numbers(self) -> dict[str, PoolNumbers]:
        return {name: _numbers_of(pool) for name, pool in self.pools.items()}


@contextmanager
def served(shown: WorkerMetrics, address: str) -> Iterator[None]:
    """Within the block, answer scrapes at the address (empty: none). Raises MetricsUnavailable."""
    if not address:
        yield
        return
    with closing(serve_metrics(shown, address_of(address))) as serving:
        print(f"worker metrics: {serving.url}", flush=True)
        yield


def _numbers_of(pool: Pool) -> PoolNumbers:
    busy = sum(len(child.started()) for child in pool.children)
    return PoolNumbers(
        slots=pool.slots(),
        busy=busy,
        fetched_ahead=pool.count() - busy,
        children=len(pool.children),
        started=pool.started,
        died=pool.died,
    )
