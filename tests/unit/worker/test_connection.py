"""The stream process's tie to a broker, in this process: what takes too long with real ones."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hyrex.transport.channel import parse_url
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.worker.shared.child_messages import Imported
from hyrex.worker.shared.memory import TrustCell, boottime_ns, create_fd
from hyrex.worker.stream.convert import Registration
from hyrex.worker.stream.outbox import StreamOutput
from hyrex.worker.stream.reconnect import Reconnector
from hyrex.worker.stream.route import LONGEST_RETURN_S, RETURN_AFTER_S, Route
from hyrex.worker.stream.session import SessionTerms, WorkerSession
from hyrex.worker.stream.stream import Stream, StreamParts
from hyrex.worker.stream.workload import Workload
from tests.support.scripted_broker import ScriptedBroker, scripted_broker


@pytest.fixture
def parts() -> Iterator[StreamParts]:
    """A worker without children."""
    trust_fd = create_fd(TrustCell.SIZE_BYTES)
    session = WorkerSession(TrustCell(trust_fd))
    outbox = StreamOutput(session)
    workload = Workload(session, outbox.reports, {})
    yield StreamParts(Registration("w", ("*",), Imported([], [])), session, workload, outbox, lambda: None)
    os.close(trust_fd)


async def test_outage_of_any_length_is_outlived(parts: StreamParts, caplog: pytest.LogCaptureFixture) -> None:
    async with scripted_broker() as gone:
        url, port = gone.url, int(gone.url.rpartition(":")[2])
    connection = Reconnector(parts, url, "", lambda: None)
    connection._failures = 5000  # some hours of it
    running = asyncio.create_task(connection.run())
    async with asyncio.timeout(60):
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
        running = asyncio.create_task(Reconnector(parts, broker.url, "", lambda: None).run())
        await broker.until(lambda: broker.frames)
        streams[0].hang_up("the broker is silent")
        await _cancelled(running)


async def test_silence_is_noticed_between_heartbeats(
    parts: StreamParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is seen only when there is something to write is seen as the trust in leases lapses, or never."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ScriptedBroker, "_answer", never)
    monkeypatch.setattr(StreamOutput, "wait", never)
    async with scripted_broker() as broker:
        broker.lease_s = 2.0
        running = asyncio.create_task(Reconnector(parts, broker.url, "", lambda: None).run())
        await broker.until(lambda: len(broker.hellos) == 2)
        await _cancelled(running)


async def test_a_welcome_that_comes_late_is_no_silence(
    parts: StreamParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    welcome = ScriptedBroker._welcome

    def late(slow: ScriptedBroker, hello: wire.Hello) -> wire.Welcome:
        time.sleep(1.2)  # longer than the silence that is borne
        return welcome(slow, hello)

    monkeypatch.setattr(ScriptedBroker, "_welcome", late)
    async with scripted_broker() as broker:
        broker.lease_s = 1.0
        running = asyncio.create_task(Reconnector(parts, broker.url, "", lambda: None).run())
        await broker.until(lambda: [frame for frame in broker.frames if frame.HasField("heartbeat")])
        await _cancelled(running)
    assert len(broker.hellos) == 1


@pytest.mark.parametrize(
    ("quiet_s", "trust_left_s", "is_silent"),
    [(2.6, 4.0, True), (2.4, 4.0, False), (1.6, 1.7, True), (1.6, 1.9, False), (1.4, 1.0, False)],
)
def test_silence_is_borne_less_long_when_trust_is_about_to_lapse(
    parts: StreamParts,
    monkeypatch: pytest.MonkeyPatch,
    quiet_s: float,
    trust_left_s: float,
    is_silent: bool,
) -> None:
    """By a lease of 5 s, and heartbeats each second."""
    session, now_ns = parts.session, boottime_ns()
    for module in ("stream", "session"):
        monkeypatch.setattr(f"hyrex.worker.stream.{module}.boottime_ns", lambda: now_ns)
    session.begin("1", b"", SessionTerms(5.0, 1.0, 1 << 20, 1000))
    session.held[1] = bytes(16)
    session.trust.until_ns = now_ns + int(trust_left_s * 1e9)
    stream = Stream(parts, None)  # type: ignore[arg-type]  # nothing is called
    stream._last_read_ns = now_ns - int(quiet_s * 1e9)
    assert (stream._silent_in_s() <= 0) is is_silent


def test_workers_with_one_list_do_not_all_begin_at_its_first() -> None:
    """By the operating system's randomness: a program that seeds the module's own is no exception."""
    addresses = parse_url("grpc://a,grpc://b,grpc://c")
    firsts = set()
    for _ in range(300):
        random.seed(1)
        firsts.add(Route(addresses).next())
    assert firsts == set(addresses)


async def test_worker_that_had_to_leave_its_first_broker_comes_back_when_that_serves(
    parts: StreamParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyrex.worker.stream.route.RETURN_AFTER_S", 0.2)
    monkeypatch.setattr("hyrex.worker.stream.route.spread", list)
    async with scripted_broker() as gone:
        port = int(gone.url.rpartition(":")[2])
    async with scripted_broker() as other:
        running = asyncio.create_task(Reconnector(parts, f"{gone.url},{other.url}", "", lambda: None).run())
        await other.until(lambda: other.hellos)
        async with scripted_broker(port) as first:
            await first.until(lambda: first.hellos)
            assert first.hellos[0].session_id == other.session_id
            await _cancelled(running)


async def test_first_broker_that_serves_nobody_is_tried_ever_less_often() -> None:
    route = Route(parse_url("grpc://a"))
    for _ in range(10):
        route.next()
        route.ended(was_of_use=False)
    assert route._return_s == LONGEST_RETURN_S
    route.ended(was_of_use=True)
    assert route._return_s == RETURN_AFTER_S


async def _cancelled(running: asyncio.Task[None]) -> None:
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=60)
    assert done
    assert running.cancelled()
