"""The stream process's tie to a broker, in this process: what takes too long with real ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from hyrex.worker.shared.child_messages import Imported
from hyrex.worker.shared.memory import TrustCell, create_fd
from hyrex.worker.stream.convert import Registration
from hyrex.worker.stream.outbox import Outbox
from hyrex.worker.stream.reconnect import Connection
from hyrex.worker.stream.session import Session
from hyrex.worker.stream.stream import Stream, StreamParts
from hyrex.worker.stream.workload import Workload
from tests.unit.worker.scripted_broker import scripted_broker


@pytest.fixture
def parts() -> Iterator[StreamParts]:
    """A worker without children."""
    trust_fd = create_fd(TrustCell.SIZE_BYTES)
    session = Session(TrustCell(trust_fd))
    outbox = Outbox(session)
    workload = Workload(session, outbox.reports, {})
    yield StreamParts(Registration("w", ("*",), Imported([], [])), session, workload, outbox, lambda: None)
    os.close(trust_fd)


async def test_outage_of_any_length_is_outlived(parts: StreamParts, caplog: pytest.LogCaptureFixture) -> None:
    async with scripted_broker() as gone:
        url, port = gone.url, int(gone.url.rpartition(":")[2])
    connection = Connection(parts, url, "", lambda: None)
    connection._failures = 5000  # some hours of it
    running = asyncio.create_task(connection.run())
    async with asyncio.timeout(20):
        while "cannot reach a broker" not in caplog.text:
            await asyncio.sleep(0.01)
    async with scripted_broker(port) as broker:
        await broker.until(lambda: broker.hellos)
        await _cancelled(running)


async def test_connection_ends_when_told_though_its_stream_was_just_hung_up(
    parts: StreamParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[Stream] = []

    class Noted(Stream):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            streams.append(self)

    monkeypatch.setattr("hyrex.worker.stream.reconnect.Stream", Noted)
    async with scripted_broker() as broker:
        running = asyncio.create_task(Connection(parts, broker.url, "", lambda: None).run())
        await broker.until(lambda: broker.frames)
        streams[0].hang_up("the broker is silent")
        await _cancelled(running)


async def _cancelled(running: asyncio.Task[None]) -> None:
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=10)
    assert done
    assert running.cancelled()
