"""Cancels and timeouts end runs in every state, whether or not the run or its worker obeys."""

import asyncio
import time
from typing import Any

from hyrex import TaskHandle
from tests.faults import app
from tests.faults.field import PATIENCE_S, Field, ends, stop, whole
from tests.support.eventually import eventually
from tests.support.postgres import connect
from tests.support.processes import RunningBroker
from tests.support.trees import is_gone


def is_cancelled(handle: TaskHandle[Any]) -> bool:
    handle.wait(PATIENCE_S)
    return handle.status == "cancelled"


def test_a_cancel_works_in_every_state(field: Field, one_broker: RunningBroker) -> None:
    queued = app.hold.send(30.0)
    delayed = app.hold.with_config(delay=60).send(30.0)
    for handle in (queued, delayed):
        assert handle.cancel()
        assert is_cancelled(handle)
    field.worker(one_broker.url, args=("-p", "2"))
    for task in (app.hold, app.hold_async, app.stubborn):
        running = task.send(30.0)
        field.begun(running)
        assert running.cancel()
        assert is_cancelled(running)
        assert len(field.executions(running)) == 1
    assert not queued.cancel()
    assert field.executions(queued) == []


def test_a_cancel_reaches_a_run_while_its_worker_drains(field: Field, one_broker: RunningBroker) -> None:
    import signal

    worker = field.worker(one_broker.url)
    handle = app.hold.send(30.0)
    field.begun(handle)
    worker.signal(signal.SIGTERM)
    worker.wait_for("drain", 60)
    handle.cancel()
    assert is_cancelled(handle)
    assert worker.wait() == 0


def test_a_cancel_through_another_broker_reaches_the_worker(field: Field, one_broker: RunningBroker) -> None:
    elsewhere = field.broker()
    field.worker(elsewhere.url)
    handle = app.hold.send(30.0)
    field.begun(handle)
    began = time.monotonic()
    handle.cancel()
    assert is_cancelled(handle)
    assert time.monotonic() - began < 20


def test_a_cancelled_run_of_a_lost_worker_never_runs_again(field: Field, one_broker: RunningBroker) -> None:
    worker = field.worker(one_broker.url)
    handle = app.hold.send(30.0)
    field.begun(handle)
    stop(whole(worker))
    handle.cancel()
    field.worker(one_broker.url)
    assert is_cancelled(handle)
    assert len(field.executions(handle)) == 1


def test_timeouts_end_sync_async_and_stubborn_runs(field: Field, one_broker: RunningBroker) -> None:
    field.worker(one_broker.url, args=("-p", "2"))
    for task in (app.hold, app.hold_async, app.stubborn):
        handle = task.with_config(timeout_seconds=0.3).send(30.0)
        pid = field.begun(handle).pid
        handle.wait(PATIENCE_S)
        assert handle.status == "timed_out"
        if task is app.stubborn:
            assert is_gone(pid)


def test_the_broker_ends_an_overdue_run_that_its_worker_does_not(
    field: Field, one_broker: RunningBroker
) -> None:
    """An overdue run is ended by the broker. The deadline is moved here: no honest worker overruns it."""
    field.worker(one_broker.url)
    handle = app.hold.with_config(timeout_seconds=3600).send(30.0)
    field.begun(handle)

    async def let_it_be_overdue() -> None:
        connection = await connect(field.database_url)
        await connection.execute("update lease set deadline = now() - interval '1 second'")
        await connection.close()

    asyncio.run(let_it_be_overdue())
    handle.wait(PATIENCE_S)
    assert ends(handle) == ["timed_out"]
    first = field.executions(handle)[0]
    eventually(lambda: field.executions(handle)[0].how or is_gone(first.pid))
