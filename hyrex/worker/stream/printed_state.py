"""What a stream process prints of itself when it is asked (SIGUSR1): session, leases, reports, children."""

import time
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from hyrex.worker.pool.held_block import Held, HeldBlock
from hyrex.worker.pool.pool import Pool
from hyrex.worker.stream.outbox import StreamOutput
from hyrex.worker.stream.session import WorkerSession
from hyrex.worker.stream.workload import Workload

_MOST_LEASES: Final = 100
_MOST_RUNS: Final = 20  # of each child


def session_lines(session: WorkerSession, outbox: StreamOutput) -> Iterator[str]:
    """The session, its leases, and what the broker has not acknowledged."""
    yield (
        f"session {session.id or 'none'}: trusted for {session.trust_left_s():.1f} s, "
        f"received_through {session.received_through}, leases {len(session.held)}, "
        f"unacknowledged reports {len(outbox.reports)}"
    )
    for token, task_id in list(session.held.items())[:_MOST_LEASES]:
        yield f"  task {UUID(bytes=task_id)} by lease {token}"
    if len(session.held) > _MOST_LEASES:
        yield f"  ... and {len(session.held) - _MOST_LEASES} more leases"


def pool_lines(workload: Workload) -> Iterator[str]:
    """Each pool and its children."""
    if workload.drain_reason:
        yield f"draining: {workload.drain_reason}"
    for pool in list(workload.pools.values()):
        yield from _pool_lines(pool)


def _run_line(token: int, held: Held) -> str:
    """Reads only: it is asked for at any moment."""
    if isinstance(held, HeldBlock):
        name, marks = held.block.terms.name, []
    else:
        name, marks = held.run.name, ["revoked"] if held.revoked else []
        if held.stop is not None:
            marks.append(f"told to stop: {held.stop.name} {held.stop_reason}".rstrip())
    where = f"given to child {getattr(held.child, 'pid', '?')}"
    return f"    run {token} of {name}: {', '.join([where, *marks])}"


def _pool_lines(pool: Pool) -> Iterator[str]:
    waiting = pool.waiting
    yield (
        f"pool {pool.plan.name}: maximum {pool.maximum()}, waiting {waiting.backlog}, "
        f"waiting to run alone {len(waiting.alone)}, children {len(pool.children)}"
    )
    for child in pool.children:
        age_s = time.monotonic() - child.started_at
        yield (
            f"  child {child.pid} {child.state.name}: slots {child.slots}, given {len(child.given)}, "
            f"given in all {child.fed}, age {age_s:.0f} s"
        )
        for token, held in list(child.given.items())[:_MOST_RUNS]:
            yield _run_line(token, held)
