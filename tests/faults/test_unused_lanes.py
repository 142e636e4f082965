"""A broker that stood still while a lane of its memory was removed loses no task of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
import pytest

from hyrex.client.process import close_client
from hyrex_broker.storage.retention import RetentionStore
from tests.faults import app
from tests.faults.field import LONG_LEASE_S, PATIENCE_S, Field, ends, stop
from tests.support.ports import free_port
from tests.support.postgres import connect

_MONTHS_PASS = (
    "delete from task", "delete from task_run", "delete from low_water_mark",
    "update lane set usable_until = now() - interval '60 days'",
    "update queue set used_at = now() - interval '60 days'",
)  # fmt: skip


async def _months_pass(url: str) -> None:
    """What had ended is gone, and retention has left no lane."""
    connection = await connect(url)
    try:
        for statement in _MONTHS_PASS:
            await connection.execute(statement)
        async with asyncio.timeout(PATIENCE_S):
            # A broker that begins is just about to do the same, which leaves nothing to do for others.
            while await connection.fetchval("select count(*) from lane"):
                await RetentionStore(url).maintain(timedelta(days=7), timedelta(days=30))
    finally:
        await connection.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still."""
    go_on = stop([psutil.Process(pid)])
    try:
        yield
    finally:
        go_on()


def test_a_broker_that_stood_still_stores_in_no_lane_that_is_gone(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, port = field.broker(lease_s=LONG_LEASE_S), free_port()
    monkeypatch.setenv("HYREX_BROKER_URL", frozen.url)
    worker = field.worker(frozen.url, f"grpc://127.0.0.1:{port}")
    rare = app.once.with_config(queue="rare")
    assert rare.send(1).wait(PATIENCE_S)
    other = field.broker(port=port, lease_s=LONG_LEASE_S)
    with stopped(frozen.process.pid):
        asyncio.run(_months_pass(field.database_url))
    late = [rare.send(2), rare.with_config(delay=0.1).send(3), rare.with_config(fair_key="k").send(4)]
    for handle in late:
        assert handle.wait(PATIENCE_S)
        assert ends(handle) == ["completed"]
    monkeypatch.setenv("HYREX_BROKER_URL", other.url)
    close_client()
    assert rare.send(5).wait(PATIENCE_S)
    assert worker.terminate() == 0
