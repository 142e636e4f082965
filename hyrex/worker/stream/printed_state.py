"""What a stream process prints of itself when it is asked (SIGUSR1): session, leases, reports, children."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.pool.pool import Pool
from hyrex.worker.stream.outbox import StreamOutput
from hyrex.worker.stream.session import WorkerSession
from hyrex.worker.stream.workload import Workload

_MOST_LEASES = 100


def session_lines(session: WorkerSession, outbox: StreamOutput) -> Iterator[str]:
    """The session, its leases, and what the broker has not acknowledged."""
    yield (
        f"session {session.id or 'none'}: trusted for {session.trust_left_s():.1f} s, "
        f"received_through {session.received_through}, leases {len(session.held)}, "
        f"unacknowledged reports {len(outbox.reports)}"
    )
    held = list(session.held.values())
    yield from map(_lease_line, held[:_MOST_LEASES])
    if len(held) > _MOST_LEASES:
        yield f"  ... and {len(held) - _MOST_LEASES} more leases"


def pool_lines(workload: Workload) -> Iterator[str]:
    """Each pool and its children."""
    if workload.drain_reason:
        yield f"draining: {workload.drain_reason}"
    for pool in list(workload.pools.values()):
        yield from _pool_lines(pool)


def _lease_line(held: HeldLease) -> str:
    marks = [word for word in ("ended", "revoked") if getattr(held, word)]
    if held.stop is not None:
        marks.append(f"told to stop: {held.stop.name} {held.stop_reason}".rstrip())
    where = "waits here" if held.child is None else f"given to child {getattr(held.child, 'pid', '?')}"
    run = held.run
    return f"  lease {run.token} task {run.task_id} {run.name} pool {held.pool}: {', '.join([where, *marks])}"


def _pool_lines(pool: Pool) -> Iterator[str]:
    waiting = pool.waiting
    yield (
        f"pool {pool.plan.name}: maximum {pool.maximum()}, waiting {len(waiting.backlog)}, "
        f"waiting to run alone {len(waiting.alone)}, children {len(pool.children)}"
    )
    for child in pool.children:
        age_s = time.monotonic() - child.started_at
        yield (
            f"  child {child.pid} {child.state.name}: slots {child.slots}, given {len(child.given)}, "
            f"given in all {child.fed}, age {age_s:.0f} s"
        )
