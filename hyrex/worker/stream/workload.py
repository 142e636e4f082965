"""Passes each lease of the session to its pool, and the end of its run to the reports.

Knows nothing of streams or processes.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.pool.pool import Pool
from hyrex.worker.shared.child_messages import Finished
from hyrex.worker.shared.outcome import Completed, Ending, Released, StopCause, dropped
from hyrex.worker.shared.runs import RunBlock
from hyrex.worker.stream.metrics import RunCounts
from hyrex.worker.stream.reports import ReportQueue
from hyrex.worker.stream.run_log import log_ending
from hyrex.worker.stream.session import WorkerSession

log = logging.getLogger("hyrex.worker")

RELEASE_AFTER_S: Final = 1.0


class Workload:
    """Passes leases to pools, endings to reports, and orders to stop to the child that has the run."""

    def __init__(self, session: WorkerSession, reports: ReportQueue, pool_of: Mapping[str, str]) -> None:
        """`pool_of` names each task's pool; pools are added by the composition root."""
        self.pools: dict[str, Pool] = {}
        self.drain_reason = ""  # why nothing more is started; empty while this worker takes work
        self._session = session
        self._reports = reports
        self._pool_of = pool_of
        self.counts = RunCounts()

    def receive(self, blocks: Iterable[RunBlock]) -> None:
        """Take in leases that have arrived."""
        held = self._session.held
        for received in blocks:
            block = received
            if not held.keys().isdisjoint(block.tokens):
                block = block.taking([at for at, token in enumerate(block.tokens) if token not in held])
            if len(block):
                held.update(zip(block.tokens, block.ids(), strict=True))
                pool = self._pool_of.get(block.terms.name, next(iter(self.pools)))
                self.pools[pool].accept(block)
        self.feed()

    def feed(self) -> None:
        """Start waiting runs for which there is room; while draining, give them back instead."""
        for pool in self.pools.values():
            if self.drain_reason:
                self._release(pool.waiting.take(0.0), self.drain_reason)
            else:
                pool.feed()

    def ended(self, held: HeldLease, ending: Ending) -> None:
        """Report a run that has ended, unless its lease was revoked."""
        if held.settled is not None:
            ending = held.settled
        if held.revoked:
            self._session.settle([held.run.token])
        else:
            self.counts.ended(ending)
            if type(ending.outcome) is not Completed:
                log_ending(held.run, ending)
            self._reports.add(held.run.task_id, ending)

    def finished(self, finished: Finished) -> None:
        """Runs have returned that were told nothing meanwhile."""
        held = self._session.held
        self.counts.completed(finished.elapsed_us)
        self._reports.add_finished([held[token] for token in finished.tokens], finished)

    def count(self) -> int:
        """How many runs have not ended."""
        return sum(pool.count() for pool in self.pools.values())

    def running(self) -> list[HeldLease]:
        """The runs that have not ended, each with a lease of its own from now on."""
        return [held for pool in self.pools.values() for held in pool.leases()]

    def _lease(self, token: int) -> HeldLease | None:
        if token not in self._session.held:
            return None
        leases = (pool.lease(token) for pool in self.pools.values())
        return next((held for held in leases if held is not None), None)

    # Orders.

    def cancel(self, token: int, reason: str) -> None:
        """Stop a run because the broker asks for it; its outcome is reported, whichever it is."""
        held = self._lease(token)
        if held is not None:
            self.stop(held, StopCause.CANCEL, reason)

    def revoke(self, tokens: Iterable[int]) -> None:
        """Stop the runs of void leases and do not report them; runs that ended before are reported."""
        for token in tokens:
            held = self._lease(token)
            if held is not None and not held.revoked:
                held.revoked = True
                self.stop(held, StopCause.REVOKED, "the lease was revoked")

    def begin_anew(self, adopted: Collection[int], *, was_trusted: bool) -> None:
        """Begin with a new session: leases that it has not adopted are void, and their runs are stopped.

        If trust had lapsed, their children are killed at once: the same tasks may be running elsewhere by
        now, and the trust of the new session would keep the children's watchdogs from ending them.
        """
        self.revoke([held.run.token for held in self.running() if held.run.token not in adopted])
        if not was_trusted:
            for pool in self.pools.values():
                pool.kill_running()

    def stop_all(self, cause: StopCause, reason: str) -> None:
        """Stop every run."""
        for held in self.running():
            self.stop(held, cause, reason)

    def recall(self) -> None:
        """Take back from the children the runs that have not started."""
        for pool in self.pools.values():
            pool.recall()

    def release_stale(self) -> None:
        """Give back the runs that found no slot within a second, or that will find none soon.

        Until then they are shown as running, and no other worker can take them.
        """
        for pool in self.pools.values():
            self._release(pool.waiting.take(RELEASE_AFTER_S, stuck=pool.is_stuck()), "no slot was free")

    def _release(self, waiting: Iterable[HeldLease], reason: str) -> None:
        for held in waiting:
            self.ended(held, Ending(held.run.token, Released(started=False, reason=reason)))

    def stop(self, held: HeldLease, cause: StopCause, reason: str) -> None:
        """Stop one run, in a child or while it waits."""
        if self.pools[held.pool].stop(held, cause, reason):
            return
        self.ended(held, Ending(held.run.token, dropped(cause, reason)))
