"""What must happen at its time even if no child reports anything: grace periods, loss of trust, long waits.

Ten times a second, it decides by what the children's ledgers show.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from hyrex.worker.pool.child_process import ChildProcess, ChildState
from hyrex.worker.pool.held_block import Held, HeldBlock
from hyrex.worker.pool.pool import Pool
from hyrex.worker.shared.child_options import ON_ERROR_NS
from hyrex.worker.shared.outcome import StopCause
from hyrex.worker.shared.platform import resident_mb
from hyrex.worker.shared.remains import reap_ended_orphans
from hyrex.worker.stream.session import SessionTerms, WorkerSession
from hyrex.worker.stream.workload import Workload

log = logging.getLogger("hyrex.worker")

_TICK_S: Final = 0.1
_WARNING: Final = 0.05  # of a lease
_LEAST_WARNING_S: Final = 0.3
_MEMORY_TICKS: Final = 10
_REAP_TICKS: Final = 10
_KEPT_S: Final = 1.0  # what has ended beside a run that takes longer is let go of
_ON_ERROR_S: Final = ON_ERROR_NS / 1e9 + 2.0  # asked to stop at its limit, killed so much later


def warning_s(terms: SessionTerms, grace_s: float) -> float:
    """How long before the end of trust runs are asked to stop, so that they can clean up."""
    return min(grace_s, max(_LEAST_WARNING_S, _WARNING * terms.lease_duration_s))


class Enforcer:
    """Stops runs, and kills children, whose time is over."""

    def __init__(
        self, session: WorkerSession, workload: Workload, grace_s: float, announce: Callable[[], bool]
    ) -> None:
        """`announce` recomputes the capacity, and returns True if the broker has been told of it."""
        self._session = session
        self._workload = workload
        self._grace_s = grace_s
        self._announce = announce
        self._stopped_untrusted = False

    async def run(self) -> None:
        """Tick until cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            self._check_trust()
            if ticks % _REAP_TICKS == 0:
                self._reap_orphans()
            for pool in self._workload.pools.values():
                self._check_pool(pool, check_memory=ticks % _MEMORY_TICKS == 0)
            self._workload.feed()
            if self._announce() and self._session.trust.trusted():
                self._workload.release_stale()

    def _check_trust(self) -> None:
        """Ask runs to stop shortly before the children's watchdogs would end them (rule 10)."""
        if self._session.trust_left_s() > warning_s(self._session.terms, self._grace_s):
            self._stopped_untrusted = False
        elif not self._stopped_untrusted:
            self._stopped_untrusted = True
            if self._workload.count():
                log.warning("leases could not be renewed in time; stopping what runs")
            self._workload.recall()
            for pool in self._workload.pools.values():
                for child in pool.children:
                    self._stop_started(child)

    def _stop_started(self, child: ChildProcess) -> None:
        # By the ledger: what was noted a tick ago does not know who began just before a pause.
        for token in child.started():
            if (held := child.lease(token)) is not None:
                self._workload.stop(held, StopCause.TRUST, "the lease could not be renewed")

    def _reap_orphans(self) -> None:
        """Reap processes that user code started and left: they are now children of this process."""
        reap_ended_orphans({child.pid for pool in self._workload.pools.values() for child in pool.children})

    def _check_pool(self, pool: Pool, *, check_memory: bool) -> None:
        now = time.monotonic()
        for child in pool.children:
            if child.state is ChildState.DEAD:
                continue
            self._check_runs(child, now, pool.pace.long_s)
            self._check_end(child, now)
            child.let_go(_KEPT_S)
            if check_memory and pool.plan.max_memory_mb and not child.worn:
                child.worn = resident_mb(child.pid) > pool.plan.max_memory_mb
        pool.maintain()
        pool.feed(patient=False)

    def _check_runs(self, child: ChildProcess, now: float, long_s: float) -> None:
        running = child.ledger.running() if child.given else []
        now_ns = time.monotonic_ns()
        newest_ns = max((run.started_ns for run in running), default=now_ns)
        child.slow = now_ns - newest_ns > long_s * 1e9 and len(running) >= child.slots
        if child.slow and not child.taking_back:
            waiting = child.unstarted()
            if waiting:
                child.take_back(waiting)
        for run in running:
            held = child.given.get(run.token)
            if held is not None and self._must_be_killed(held, run.started_ns, now):
                held = child.lease(run.token)
                assert held is not None
                if held.settled is None and held.stop is None:
                    held.stop, held.stop_at = StopCause.TIMEOUT, now
                what = "on_error of task" if held.settled is not None else "task"
                log.warning("%s %s did not stop within its grace; killing its child", what, held.run.name)
                child.kill(blame=held)
                return

    def _check_end(self, child: ChildProcess, now: float) -> None:
        """Kill a child that was told to end, has no runs, and is still there after the grace period."""
        if not child.retiring or child.given:
            return
        if child.ending_since is None:
            child.ending_since = now
        elif now - child.ending_since > self._grace_s:
            log.warning(
                "child %d did not end by itself within %g s (a lifespan, a thread or a process of user code "
                "keeps it); killing it",
                child.pid,
                self._grace_s,
            )
            child.kill()

    def _must_be_killed(self, held: Held, started_ns: int, now: float) -> bool:
        if isinstance(held, HeldBlock):
            timeout_ns = held.block.terms.timeout_ns
        elif held.settled is not None:  # its error handler runs, by a clock of its own
            return now - started_ns / 1e9 > _ON_ERROR_S
        elif held.stop is not None:
            return now - held.stop_at > self._grace_s
        else:
            timeout_ns = held.run.timeout_ns
        return bool(timeout_ns) and now - started_ns / 1e9 > timeout_ns / 1e9 + self._grace_s
