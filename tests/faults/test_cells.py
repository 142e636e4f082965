"""Two cells, each on a Postgres of its own: one that is away harms no other, and a queue moves under load."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
import pytest

from hyrex import TaskHandle, send_many, wait_all
from hyrex.client.process import close_client
from hyrex_broker.embedded import EmbeddedPostgres
from tests.chaos.journal import VARIABLE, Journal
from tests.chaos.record import digest
from tests.faults import app
from tests.faults.field import stop
from tests.support.eventually import eventually
from tests.support.postgres import connect, copied_database, migrate_now
from tests.support.processes import Processes, RunningBroker
from tests.support.trees import tree

moving = app.once.with_config(queue="moving")
staying = app.once.with_config(queue="staying")
BATCH: Final = 20
LIVE: Final = (
    "select (select count(*) from ready) + (select count(*) from delayed) + (select count(*) from lease)"
)


@dataclass
class Place:
    """One cell."""

    broker: RunningBroker
    database_url: str

    def ids(self) -> set[str]:
        """Every task that it has stored."""
        return {str(row["id"]) for row in asyncio.run(_rows(self.database_url, "select id from task"))}

    def is_empty(self) -> bool:
        """Nothing waits or runs there."""
        return not asyncio.run(_rows(self.database_url, LIVE))[0][0]


async def _rows(url: str, sql: str) -> list[Any]:
    connection = await connect(url)
    try:
        found: list[Any] = await connection.fetch(sql)
        return found
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def second_postgres() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(durable=False) as server:
        migrate_now(server.url)
        yield server


@pytest.fixture(scope="module")
def places(
    postgres_url: str, template_database: str, second_postgres: EmbeddedPostgres
) -> Iterator[tuple[Place, Place]]:
    processes = Processes()
    with copied_database(postgres_url, template_database, f"hyrex_cells_{os.getpid()}") as url:
        try:
            yield tuple(Place(processes.broker(each), each) for each in (url, second_postgres.url))  # type: ignore[misc]
        finally:
            processes.end()


@pytest.fixture(autouse=True)
def routed(places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HYREX_CELLS", f"staying={places[1].broker.url};*={places[0].broker.url}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "60")
    yield
    close_client()


@dataclass
class Load:
    """Threads that send to one queue, one task and many at a time, until they are told to stop."""

    handles: list[TaskHandle[int]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def one_by_one(self) -> None:
        """Send task after task."""
        while not self.over.is_set():
            self.handles.append(moving.send(1))

    def many(self) -> None:
        """Send many at a time."""
        while not self.over.is_set():
            self.handles.extend(send_many(moving.call(number) for number in range(BATCH)))

    def until(self, count: int) -> None:
        """Return when so many more are acknowledged."""
        wanted = len(self.handles) + count
        eventually(lambda: len(self.handles) >= wanted or self.over.is_set())


def test_a_queue_that_is_moved_under_load_loses_and_doubles_nothing(
    places: tuple[Place, Place], processes: Processes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Routes are changed in the sender, workers serve both cells until the old one is empty."""
    old, new = places
    journal = tmp_path / "journal.jsonl"
    for place in places:  # in this thread: they end with the one that starts them
        processes.worker(
            place.broker.url, "tests.faults.app:app", "-p", "1", "-q", "moving", env={VARIABLE: str(journal)}
        )
    load = Load()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2))
        stack.callback(load.over.set)
        senders = [pool.submit(each) for each in (load.one_by_one, load.many)]
        load.until(3 * BATCH)
        monkeypatch.setenv("HYREX_CELLS", f"*={new.broker.url}")
        load.until(3 * BATCH)
        load.over.set()
        for sender in senders:
            sender.result(60)
    sent = {str(handle.id) for handle in load.handles}
    assert len(sent) == len(load.handles)
    assert wait_all(load.handles, 60)
    eventually(old.is_empty)
    stored = [place.ids() for place in places]
    assert all(stored), "nothing was sent before or after the change"
    assert stored[0] | stored[1] == sent
    assert not stored[0] & stored[1]
    executions = digest(Journal(journal).read()).executions
    assert {task_id: len(executions[task_id]) for task_id in sent} == dict.fromkeys(sent, 1)


def test_the_death_of_one_cell_delays_nothing_in_the_other(
    places: tuple[Place, Place], second_postgres: EmbeddedPostgres
) -> None:
    """Its processes stand still, which is noticed latest of all, and several threads wait for it."""
    moving.send(0), staying.send(0)
    broker = psutil.Process(places[1].broker.process.pid)
    with ThreadPoolExecutor(8) as pool:
        go_on = stop([broker, *tree(second_postgres.pid)])
        try:
            calls: list[Callable[[], Any]] = [
                lambda: staying.send(1),
                lambda: send_many([staying.call(2), moving.call(2)]),
            ] * 4
            waiting: list[Future[Any]] = [pool.submit(call) for call in calls]
            handles = [moving.send(number) for number in range(50)]
            handles += send_many(moving.call(number) for number in range(50))
            assert not any(each.done() for each in waiting)
            for handle in handles[:5]:
                handle.refresh()
        finally:
            go_on()
        assert all(each.result(60) for each in waiting)
