"""What the session holds and what becomes of it: leases in, runs out to the pools, endings back.

Every lease goes through here once in each direction; nothing here knows streams or processes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.pool.pool import Pool
from hyrex.worker.shared.child_messages import Run
from hyrex.worker.shared.outcome import Cancelled as CancelledOutcome
from hyrex.worker.shared.outcome import Completed, Ending, Released, StopCause
from hyrex.worker.stream.reports import ReportQueue
from hyrex.worker.stream.run_log import log_ending
from hyrex.worker.stream.session import WorkerSession

log = logging.getLogger("hyrex.worker")

RELEASE_AFTER_S = 1.0


class Workload:
    """Routes leases to pools, endings to reports, and stops to whoever runs."""

    def __init__(self, session: WorkerSession, reports: ReportQueue, pool_of: Mapping[str, str]) -> None:
        """`pool_of` names each task's pool; pools are added by the composition root."""
        self.pools: dict[str, Pool] = {}
        self.departing = ""  # why nothing more is started; empty while work is welcome
        self._session = session
        self._reports = reports
        self._pool_of = pool_of

    def receive(self, runs: Iterable[Run]) -> None:
        """Leases have arrived."""
        for run in runs:
            if run.token in self._session.held:
                continue
            held = HeldLease(run, self._pool_of.get(run.name, next(iter(self.pools))))
            self._session.held[run.token] = held
            self.pools[held.pool].accept(held)
        self.feed()

    def feed(self) -> None:
        """Start what may start; when departing, give it back instead."""
        for pool in self.pools.values():
            if self.departing:
                self._release(pool.waiting.take(0.0), self.departing)
            else:
                pool.feed()

    def ended(self, held: HeldLease, ending: Ending) -> None:
        """A run has ended."""
        if held.ended:
            return
        held.ended = True
        if held.settled is not None:
            ending = held.settled
        if held.revoked:
            self._session.settle([held.run.token])
        else:
            if type(ending.outcome) is not Completed:
                log_ending(held.run, ending)
            self._reports.add(held.run.task_id, ending)

    def running(self) -> list[HeldLease]:
        """Leases whose runs have not ended."""
        return [held for held in self._session.held.values() if not held.ended]

    # Orders.

    def cancel(self, token: int, reason: str) -> None:
        """The broker asks a run to stop; it is reported whatever it does."""
        held = self._session.held.get(token)
        if held is not None and not held.ended:
            self.stop(held, StopCause.CANCEL, reason)

    def revoke(self, tokens: Iterable[int]) -> None:
        """Leases are void: stop their runs, report nothing; what has ended is reported anyway."""
        for token in tokens:
            held = self._session.held.get(token)
            if held is not None and not held.ended and not held.revoked:
                held.revoked = True
                self.stop(held, StopCause.REVOKED, "the lease was revoked")

    def begin_anew(self, adopted: Collection[int], *, was_trusted: bool) -> None:
        """A new session: what it has not adopted is void, and stopped.

        If trust had lapsed, nobody may be asked to stop: the runs may be going on elsewhere by now,
        and the new session's trust would call their children's watchdogs off.
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
        """Take back what has not started."""
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
        """Stop one run, wherever it is."""
        if self.pools[held.pool].stop(held, cause, reason):
            return
        outcome = CancelledOutcome(reason) if cause is StopCause.CANCEL else Released(False, reason)
        self.ended(held, Ending(held.run.token, outcome))
