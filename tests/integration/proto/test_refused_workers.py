"""What a broker answers to workers and operators that it refuses: code, reason and metadata."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from hyrex.transport.errors import CallFailure, call_failure
from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc, queue_service_pb2, queue_service_pb2_grpc
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.support.processes import RunningBroker


@pytest.fixture
async def channel(broker: RunningBroker) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(broker.address) as channel:
        yield channel


def hello(**more: Any) -> wire.WorkRequest:
    """A Hello that is accepted, unless `more` says otherwise."""
    fields: dict[str, Any] = {
        "worker_name": "w",
        "protocol_version": 1,
        "queue_patterns": ["*"],
        "capacity": [wire.PoolCapacity(maximum=1)],
    }
    return wire.WorkRequest(hello=wire.Hello(**(fields | more)))


async def end_of(call: Any) -> CallFailure:
    """How a stream ends that the broker refuses."""
    async with asyncio.timeout(60):
        try:
            while isinstance(await call.read(), wire.WorkResponse):
                pass
        except grpc.aio.AioRpcError as error:
            return call_failure(error)
    raise AssertionError("the stream ended with OK")


async def refused(channel: grpc.aio.Channel, frame: wire.WorkRequest) -> CallFailure:
    """How a stream ends whose first frame is this one."""
    call: Any = WorkerServiceStub(channel).Work()
    await call.write(frame)
    return await end_of(call)


async def welcomed(channel: grpc.aio.Channel) -> tuple[Any, wire.Welcome]:
    """An open stream and its Welcome."""
    call: Any = WorkerServiceStub(channel).Work()
    await call.write(hello())
    return call, (await call.read()).welcome


async def test_a_stream_begins_with_one_hello(channel: grpc.aio.Channel) -> None:
    beat = wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=1))
    call, _ = await welcomed(channel)
    await call.write(hello())
    for failure in (await refused(channel, beat), await end_of(call)):
        assert (failure.code.name, failure.reason) == ("FAILED_PRECONDITION", "HELLO_EXPECTED")


async def test_another_protocol_version_is_refused_with_the_range(channel: grpc.aio.Channel) -> None:
    failure = await refused(channel, hello(protocol_version=999))
    assert failure.reason == "PROTOCOL_UNSUPPORTED"
    assert failure.metadata == {"minimum": "1", "maximum": "1"}


async def test_a_malformed_hello_is_refused_by_field(channel: grpc.aio.Channel) -> None:
    failure = await refused(channel, hello(queue_patterns=[]))
    assert (failure.reason, failure.metadata["field"]) == ("INVALID_FIELD", "queue_patterns")


async def test_slots_have_bounds(channel: grpc.aio.Channel) -> None:
    for slots in (-1, 100_001):
        failure = await refused(channel, hello(capacity=[wire.PoolCapacity(maximum=1, slots=slots)]))
        assert (failure.reason, failure.metadata["field"]) == ("INVALID_FIELD", "slots['']")


async def test_a_session_needs_its_secret(channel: grpc.aio.Channel) -> None:
    call, welcome = await welcomed(channel)
    failure = await refused(channel, hello(session_id=welcome.session_id, session_secret=b"guess"))
    assert (failure.code.name, failure.reason) == ("PERMISSION_DENIED", "SESSION_SECRET_INVALID")
    call.cancel()


async def test_the_older_of_two_streams_of_a_session_ends(channel: grpc.aio.Channel) -> None:
    call, welcome = await welcomed(channel)
    newer: Any = WorkerServiceStub(channel).Work()
    await newer.write(hello(session_id=welcome.session_id, session_secret=welcome.session_secret))
    assert (await newer.read()).welcome.resumed
    assert (await end_of(call)).reason == "SESSION_TAKEN_OVER"
    newer.cancel()


async def test_a_worker_that_an_operator_drained_is_told_so_right_after_it_resumes(
    channel: grpc.aio.Channel,
) -> None:
    call, welcome = await welcomed(channel)
    drain: Any = admin_service_pb2_grpc.AdminServiceStub(channel).DrainWorker
    await drain(admin_service_pb2.DrainWorkerRequest(session_id=welcome.session_id))
    assert (await call.read()).HasField("leave")
    newer: Any = WorkerServiceStub(channel).Work()
    await newer.write(hello(session_id=welcome.session_id, session_secret=welcome.session_secret))
    assert (await newer.read()).welcome.resumed
    assert (await newer.read()).HasField("leave")
    newer.cancel()


async def test_an_ended_session_cannot_be_ended_again(channel: grpc.aio.Channel) -> None:
    call, welcome = await welcomed(channel)
    await call.write(wire.WorkRequest(goodbye=wire.Goodbye()))
    assert await call.code() is grpc.StatusCode.OK
    end: Any = WorkerServiceStub(channel).EndSession
    request = wire.EndSessionRequest(session_id=welcome.session_id, session_secret=welcome.session_secret)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await end(request)
    assert call_failure(raised.value).reason == "SESSION_ENDED"


async def test_unknown_queues_and_peers_are_not_found(channel: grpc.aio.Channel) -> None:
    get: Any = queue_service_pb2_grpc.QueueServiceStub(channel).GetQueue
    drain: Any = admin_service_pb2_grpc.AdminServiceStub(channel).DrainWorker
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await get(queue_service_pb2.GetQueueRequest(name="nowhere"))
    failure = call_failure(raised.value)
    assert (failure.reason, failure.metadata) == ("QUEUE_NOT_FOUND", {"queue": "nowhere"})
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await drain(admin_service_pb2.DrainWorkerRequest(session_id="999999"))
    failure = call_failure(raised.value)
    assert (failure.reason, failure.metadata) == ("PEER_NOT_FOUND", {"id": "999999"})
