"""Tasks enqueued in a database beside the brokers', while brokers that carry them are killed."""

import threading
from collections.abc import Callable
from functools import partial

from hyrex_broker.storage.outbox_install import install
from tests.support.eventually import eventually
from tests.support.postgres import connect, run_apart
from tests.support.processes import Processes

TRANSACTIONS = 600
EACH = 20


async def _enqueue(url: str) -> None:
    """Every third transaction rolls back."""
    connection = await connect(url)
    for number in range(TRANSACTIONS):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "select count(hyrex.enqueue('work', jsonb_build_object('n', $1::integer)))"
            " from generate_series(1, $2)",
            number,
            EACH,
        )
        await (transaction.rollback() if number % 3 == 0 else transaction.commit())
    await connection.close()


async def _value(url: str, sql: str) -> int:
    connection = await connect(url)
    found: int = await connection.fetchval(sql)
    await connection.close()
    return found


def _count(url: str, sql: str) -> Callable[[], int]:
    return lambda: run_apart(_value(url, f"select count(*) from hyrex.{sql}"))


def _is_over(before: int, carried: Callable[[], int], enqueuing: threading.Thread) -> bool:
    return carried() > before or not enqueuing.is_alive()


def test_exactly_what_was_committed_beside_becomes_tasks_while_brokers_are_killed(
    processes: Processes, database_url: str, empty_database_url: str
) -> None:
    run_apart(install(empty_database_url))
    enqueuing = threading.Thread(target=lambda: run_apart(_enqueue(empty_database_url)))
    enqueuing.start()
    carried, tasks = _count(database_url, "carried"), _count(database_url, "task")
    for _ in range(3):
        broker, before = processes.broker(database_url, "--outbox-url", empty_database_url), carried()
        # It is killed as soon as it has carried something more, wherever it is then.
        eventually(partial(_is_over, before, carried, enqueuing), within_s=60)
        broker.process.kill()
    enqueuing.join()
    processes.broker(database_url, "--outbox-url", empty_database_url)
    committed = EACH * (TRANSACTIONS - TRANSACTIONS // 3)
    eventually(lambda: tasks() >= committed, within_s=60)
    eventually(lambda: not _count(empty_database_url, "outbox")(), within_s=60)
    assert _count(database_url, "outbox")() == 0
    by_transaction = "(select count(*) from hyrex.task group by payload having count(*) = 20) t"
    assert run_apart(_value(database_url, f"select count(*) from {by_transaction}")) == committed // EACH
    assert tasks() == _count(database_url, "ready")() == committed
