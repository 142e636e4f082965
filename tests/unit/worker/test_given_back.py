"""Runs that wait for a slot are given back: at once if every slot has a long run, else after a second."""

import pytest

from hyrex.worker.pool.child_process import ChildPlan
from hyrex.worker.pool.pool import Pool
from hyrex.worker.pool.pool_plan import PoolEvents, PoolPlan
from hyrex.worker.shared.memory import TrustCell, create_fd
from hyrex.worker.stream.reports import ReportQueue
from hyrex.worker.stream.session import WorkerSession
from hyrex.worker.stream.workload import Workload
from tests.unit.worker.test_held_blocks import block


class BusyPool(Pool):
    """A pool whose slots are busy."""

    stuck = False

    def is_stuck(self) -> bool:
        return self.stuck


@pytest.fixture
async def workload() -> Workload:
    """A worker that holds three runs, for which it has no slot."""
    fd = create_fd(TrustCell.SIZE_BYTES)
    cell = TrustCell(fd)
    session = WorkerSession(cell)
    made = Workload(session, ReportQueue(lambda: None), {"work": "sync"})
    events = PoolEvents(made.ended, made.finished, lambda: None)
    plan = ChildPlan("app:app", "worker", fd, 1, "grpc://127.0.0.1:1")
    made.pools["sync"] = BusyPool(PoolPlan("sync", False, 1, 1), plan, cell, events)
    made.receive([block(range(1, 4))])
    return made


def stuck(workload: Workload, value: bool) -> None:
    pool = workload.pools["sync"]
    assert isinstance(pool, BusyPool)
    pool.stuck = value


async def test_runs_behind_a_long_one_are_given_back_at_once(workload: Workload) -> None:
    """Others have free slots meanwhile, and here they are shown as running."""
    stuck(workload, True)
    workload.release_stale()
    assert workload.count() == 0
    assert workload.counts.by_outcome == {"released": 3}


async def test_runs_that_will_find_a_slot_soon_are_kept(workload: Workload) -> None:
    stuck(workload, False)
    workload.release_stale()
    assert workload.count() == 3
