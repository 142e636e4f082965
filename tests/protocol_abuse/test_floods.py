"""Floods, streams that never read, and crowds of sessions: memory stays bounded, others notice nothing."""

import threading
from collections.abc import Iterator

import grpc

from hyrex.v1 import worker_service_pb2 as wire
from tests.integration.storage.stage import make_id
from tests.protocol_abuse.abuser import WITHIN_S, hello, speak, work
from tests.protocol_abuse.conftest import Bystander
from tests.support.columns import completed
from tests.support.eventually import eventually

_MORE_MIB = 120.0


def test_more_reports_than_granted_end_the_stream(bystander: Bystander) -> None:
    runs = completed([(make_id(), token) for token in range(1000)], b"")
    report = wire.WorkRequest(report=wire.Report(report_id=1, completed=[runs])).SerializeToString()
    before = bystander.memory_mib
    outcome = speak(bystander.channel, [hello(), *[report] * 200])
    assert outcome.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OK)
    if outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        assert outcome.reason == "FLOW_CONTROL"
    assert bystander.memory_mib < before + _MORE_MIB


def test_a_flood_of_heartbeats_is_answered_with_few_acknowledgements(bystander: Bystander) -> None:
    beats = [
        wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=n, held_tokens=range(n, n + 100)))
        for n in range(5000)
    ]
    before = bystander.memory_mib
    outcome = speak(bystander.channel, [hello(), *beats, wire.WorkRequest(goodbye=wire.Goodbye())])
    assert outcome.code is grpc.StatusCode.OK
    assert sum(frame.HasField("heartbeat_ack") for frame in outcome.frames) < 500
    assert bystander.memory_mib < before + _MORE_MIB


def test_a_stream_that_never_reads_fills_only_its_own_outbox(bystander: Bystander) -> None:
    """Its capacity says it would take everything; what it does not read returns when its session ends."""
    hold = threading.Event()

    def frames() -> Iterator[bytes]:
        yield hello(capacity=[wire.PoolCapacity(pool="all", maximum=100_000)]).SerializeToString()
        hold.wait(WITHIN_S)

    channel = grpc.insecure_channel(bystander.broker.address)
    call = work(channel)(frames(), timeout=WITHIN_S)
    before = bystander.memory_mib
    for _ in range(40):
        bystander.submit(1000, size_bytes=2000, queue="abuse")
    bystander.look()
    assert bystander.memory_mib < before + _MORE_MIB
    hold.set()
    call.cancel()
    channel.close()


def test_a_crowd_of_sessions_that_appear_and_vanish_leaves_nothing(bystander: Bystander) -> None:
    channels = [grpc.insecure_channel(bystander.broker.address) for _ in range(4)]
    before = bystander.memory_mib

    def crowd(channel: grpc.Channel, abrupt: bool) -> None:
        method = work(channel)
        for _ in range(250):
            hold = threading.Event()

            def frames(hold: threading.Event = hold) -> Iterator[bytes]:
                yield hello().SerializeToString()
                hold.wait(WITHIN_S)

            call = method(frames(), timeout=WITHIN_S)
            if not abrupt:
                next(call)
            call.cancel()
            hold.set()

    threads = [
        threading.Thread(target=crowd, args=(channel, number % 2 == 0))
        for number, channel in enumerate(channels)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bystander.look()
    for channel in channels:
        channel.close()
    assert bystander.memory_mib < before + _MORE_MIB
    eventually(lambda: "session expired" in bystander.broker.process.output)


def test_half_open_streams_are_ended_without_a_hello(bystander: Bystander) -> None:
    hold = threading.Event()

    def silence() -> Iterator[bytes]:
        hold.wait(WITHIN_S)
        yield b""

    # A connection each: on one, what arrives for too long makes way (tests/hostile/test_floods.py).
    alone = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(bystander.broker.address, alone) for _ in range(20)]
    calls = [work(channel)(silence(), timeout=WITHIN_S) for channel in channels]
    bystander.look()
    codes = {call.code() for call in calls}
    hold.set()
    assert codes == {grpc.StatusCode.FAILED_PRECONDITION}
