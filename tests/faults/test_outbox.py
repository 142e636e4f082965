"""Tasks enqueued in transactions of which a third roll back, while brokers are killed."""

import asyncio
import threading
from functools import partial

from benchmarks.outbox import EXPECTED, Verdict, enqueue_randomly, until
from tests.support.postgres import connect, run_apart
from tests.support.processes import Processes

PATIENCE_S = 100.0


async def _enqueue(url: str) -> int:
    return sum(await asyncio.gather(*[enqueue_randomly(url, 3000, seed) for seed in range(2)]))


async def _prepare(url: str) -> None:
    connection = await connect(url)
    await connection.execute(EXPECTED)
    await connection.close()


def test_exactly_what_was_committed_becomes_tasks_while_brokers_are_killed(
    processes: Processes, database_url: str
) -> None:
    run_apart(_prepare(database_url))

    enqueuing = threading.Thread(target=lambda: counts.append(run_apart(_enqueue(database_url))))
    counts = list[int]()
    enqueuing.start()
    for _ in range(2):
        broker, before = processes.broker(database_url), _tasks(database_url)
        # It is killed as soon as it has relayed something more, wherever it is then.
        run_apart(until(database_url, partial(_more_than, before), 5))
        broker.process.kill()
    enqueuing.join()
    (committed,) = counts
    processes.broker(database_url)
    found = run_apart(until(database_url, lambda now: not now.left_over, PATIENCE_S))
    assert found.committed == committed
    assert found.is_exact, found
    assert found.live == committed  # none has a second row, and none is without


def _more_than(before: int, now: Verdict) -> bool:
    return now.tasks > before


def _tasks(url: str) -> int:
    return run_apart(until(url, lambda now: True, 0)).tasks
