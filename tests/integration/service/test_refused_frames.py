"""A frame that is refused ends the stream with its status, whatever is being written at that moment."""

import grpc
import grpc.aio
import pytest

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1 import worker_service_pb2_grpc
from tests.support.processes import RunningBroker


def hello() -> wire.WorkRequest:
    return wire.WorkRequest(
        hello=wire.Hello(
            worker_name="abuser",
            protocol_version=1,
            queue_patterns=["*"],
            tasks=[wire.TaskDefinition(name="f")],
            capacity=[wire.PoolCapacity(maximum=1)],
        )
    )


async def test_a_second_hello_sent_at_once_is_answered_with_its_reason(broker: RunningBroker) -> None:
    async with grpc.aio.insecure_channel(broker.address) as channel:
        call = worker_service_pb2_grpc.WorkerServiceStub(channel).Work(timeout=60)
        await call.write(hello())
        await call.write(hello())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "second Hello" in (caught.value.details() or "")
