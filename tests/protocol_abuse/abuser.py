"""A client without manners: sends any bytes on a Work stream, in any order, and may never read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from hyrex.v1 import worker_service_pb2 as wire

METHOD = "/hyrex.v1.WorkerService/Work"
WITHIN_S = 60.0
TYPED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}


@dataclass
class Outcome:
    """What came of a stream."""

    code: grpc.StatusCode
    reason: str
    details: str
    frames: list[wire.WorkResponse] = field(default_factory=list)


def hello(**changes: Any) -> wire.WorkRequest:
    """A proper Hello, or one with some fields changed."""
    fields: dict[str, Any] = {
        "worker_name": "abuser",
        "host": "nowhere",
        "pid": 1,
        "sdk": "abuse/1",
        "protocol_version": 1,
        "queue_patterns": ["abuse"],
        "tasks": [wire.TaskDefinition(name="abused", queue="abuse", pool="all")],
        "capacity": [wire.PoolCapacity(pool="all", maximum=10)],
    }
    return wire.WorkRequest(hello=wire.Hello(**(fields | changes)))


def work(channel: grpc.Channel) -> Any:
    """The method, with frames as bytes on their way out."""
    return channel.stream_stream(METHOD, response_deserializer=wire.WorkResponse.FromString)


def speak(channel: grpc.Channel, frames: Iterable[bytes | wire.WorkRequest]) -> Outcome:
    """Send frames, close, and read to the end."""
    call = work(channel)(_bytes(frames), timeout=WITHIN_S)
    received: list[wire.WorkResponse] = []
    try:
        received.extend(call)
    except grpc.RpcError:
        pass
    return Outcome(call.code(), reason_of(call), call.details() or "", received)


def _bytes(frames: Iterable[bytes | wire.WorkRequest]) -> Iterator[bytes]:
    for frame in frames:
        yield frame if isinstance(frame, bytes) else frame.SerializeToString()


def reason_of(call: Any) -> str:
    """The ErrorInfo's reason of a call's status, if it has one."""
    status = rpc_status.from_call(call)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
