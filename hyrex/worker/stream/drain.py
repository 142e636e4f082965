"""How a worker ends: take no new work, finish what runs, give back the rest, report, say Goodbye.

The first order to end lets runs go on until the drain timeout; the second stops them at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from hyrex.worker.shared.outcome import StopCause
from hyrex.worker.stream.capacity import Places
from hyrex.worker.stream.outbox import StreamOutput
from hyrex.worker.stream.workload import Workload

log = logging.getLogger("hyrex.worker")

_DEAD_WITHIN_S: Final = 2.0
_ACKNOWLEDGED_WITHIN_S: Final = 5.0
_TICK_S: Final = 0.02


class WorkerDrain:
    """Waits for the order to end, then ends the work of this worker in order."""

    def __init__(
        self, workload: Workload, outbox: StreamOutput, drain_timeout_s: float, grace_s: float
    ) -> None:
        """Nothing happens before `drain` or `release` is called."""
        self._workload = workload
        self._outbox = outbox
        self._drain_timeout_s = drain_timeout_s
        self._grace_s = grace_s
        self._ordered = asyncio.Event()
        self._release_now = False

    def drain(self) -> None:
        """Finish what runs, then end."""
        self._ordered.set()

    def release(self) -> None:
        """Stop what runs, then end."""
        self._release_now = True
        self._ordered.set()

    async def run(self) -> bool:
        """Wait for the order, then end. Return True if nothing runs and every report was acknowledged."""
        await self._ordered.wait()
        workload = self._workload
        reason = "worker drains"
        workload.drain_reason = reason
        self._outbox.capacity.want(dict.fromkeys(workload.pools, Places(0, 0)))
        self._outbox.drain(reason)
        workload.recall()
        workload.feed()
        if workload.count():
            log.info("draining: %d runs left", workload.count())
        await self._until(self._idle_or_released, self._drain_timeout_s)
        if workload.count():
            workload.stop_all(StopCause.DRAIN, "the worker was stopped before it ended")
            await self._until(lambda: not workload.count(), self._grace_s + 2.0)
        if workload.count():
            self._kill()
            await self._until(lambda: not workload.count(), _DEAD_WITHIN_S)
        acknowledged = await self._until(lambda: not len(self._outbox.reports), _ACKNOWLEDGED_WITHIN_S)
        return acknowledged and not workload.count()

    def _kill(self) -> None:
        """Kill the children that still have runs; how these ended follows from the death of their child."""
        log.warning("%d runs did not end when asked; killing their children", self._workload.count())
        for pool in self._workload.pools.values():
            for child in pool.children:
                if child.given:
                    child.kill()

    def _idle_or_released(self) -> bool:
        return self._release_now or not self._workload.count()

    async def _until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not done() and time.monotonic() < deadline:
            self._workload.feed()
            await asyncio.sleep(_TICK_S)
        return done()
