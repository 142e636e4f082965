"""Whoever is refused learns why, however much of its call is still to come.

On the wire: the status with its details, and only then the end of the stream (RST_STREAM with NO_ERROR tells
a caller that it need not send the rest, RFC 9113, 8.1).
"""

import struct
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.service.arriving import AT_ONCE
from tests.hostile.http2 import RawConnection
from tests.hostile.victim import BEARER, WITHIN_S, Victim, open_channel
from tests.support.eventually import eventually

TASKS: Final = "/hyrex.v1.TaskService/"
WORK: Final = "/hyrex.v1.WorkerService/Work"
ABSENT: Final = f"{TASKS}Nothing"
HEARTBEAT: Final = wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=1)).SerializeToString()
MIB: Final = 2**20
GZIP: Final = (*BEARER, ("grpc-encoding", "gzip"))


def head(size: int, *, compressed: bool = False) -> bytes:
    """What precedes a message of gRPC."""
    return bytes([compressed]) + struct.pack(">I", size)


class Refused(NamedTuple):
    """A call that is refused as soon as so much of it has arrived."""

    path: str
    metadata: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


ON_THE_WIRE: Final = {
    "no token, nothing sent": Refused(f"{TASKS}GetTask"),
    "no token, part of a body": Refused(f"{TASKS}SubmitTasks", (), head(15 * MIB) + bytes(16_000)),
    "no token, one message of more": Refused(f"{TASKS}StreamSubmit", (), head(10) + bytes(10)),
    "no token, a worker": Refused(WORK, (), head(len(HEARTBEAT)) + HEARTBEAT),
    "no such method, nothing sent": Refused(ABSENT, BEARER),
    "no such method, part of a body": Refused(ABSENT, BEARER, head(15 * MIB) + bytes(16_000)),
    "above 16 MiB, part of a body": Refused(f"{TASKS}SubmitTasks", BEARER, head(17 * MIB) + bytes(16_000)),
    "above 16 MiB, of a stream": Refused(f"{TASKS}StreamSubmit", BEARER, head(17 * MIB) + bytes(16_000)),
    "compressed, whole": Refused(f"{TASKS}GetTask", GZIP, head(10, compressed=True) + bytes(10)),
    "compressed, of a stream": Refused(f"{TASKS}StreamSubmit", GZIP, head(10, compressed=True) + bytes(10)),
    "no Hello": Refused(WORK, BEARER, head(len(HEARTBEAT)) + HEARTBEAT),
    "no message": Refused(f"{TASKS}StreamSubmit", BEARER, head(3) + b"\xff\xff\xff"),
}


@pytest.mark.parametrize("name", ON_THE_WIRE)
def test_a_status_comes_before_the_end_of_the_stream(victim: Victim, name: str) -> None:
    path, metadata, body = ON_THE_WIRE[name]
    with RawConnection(victim.address) as caller:
        stream = caller.begin(path, metadata, body)
        eventually(lambda: "reset" in str(caller.answers[stream]), WITHIN_S)
        *before, status, end = caller.answers[stream]
    assert (status, end) == ("headers, the last", "reset 0")
    assert before in ([], ["headers"])


def test_whoever_has_to_make_way_gets_the_status_first(victim: Victim) -> None:
    """FLOW_CONTROL: the body of one too many waits, and the slowest of the others has to make way."""
    with RawConnection(victim.address) as caller:
        body = head(15 * MIB) + bytes(16)
        streams = [caller.begin(f"{TASKS}SubmitTasks", BEARER, body) for _ in range(AT_ONCE + 1)]
        refused = eventually(
            lambda: [stream for stream in streams if "reset" in str(caller.answers[stream])], WITHIN_S
        )
        *before, status, end = caller.answers[refused[0]]
    assert (status, end) == ("headers, the last", "reset 0")
    assert before in ([], ["headers"])


class Sent(NamedTuple):
    """A call whose caller goes on sending, and how it ends."""

    path: str
    metadata: tuple[tuple[str, str], ...]
    body: bytes
    code: str
    reason: str


SENT: Final = {
    "no token": Sent(f"{TASKS}StreamSubmit", (), bytes(15 * MIB), "UNAUTHENTICATED", "TOKEN_INVALID"),
    "no token, small": Sent(f"{TASKS}GetTask", (), b"", "UNAUTHENTICATED", "TOKEN_INVALID"),
    "no token, a worker": Sent(WORK, (), HEARTBEAT, "UNAUTHENTICATED", "TOKEN_INVALID"),
    "no such method": Sent(ABSENT, BEARER, bytes(15 * MIB), "UNIMPLEMENTED", ""),
    "above 16 MiB": Sent(f"{TASKS}StreamSubmit", BEARER, bytes(17 * MIB), "RESOURCE_EXHAUSTED", ""),
    "too many items": Sent(
        f"{TASKS}StreamSubmit", BEARER, b"\x12\0" * MIB, "RESOURCE_EXHAUSTED", "TOO_MANY_ITEMS"
    ),
    "no Hello": Sent(WORK, BEARER, HEARTBEAT, "FAILED_PRECONDITION", "HELLO_EXPECTED"),
}


@pytest.mark.parametrize("name", SENT)
def test_a_caller_that_goes_on_sending_gets_code_and_reason(victim: Victim, name: str) -> None:
    path, metadata, body, code, reason = SENT[name]
    told = threading.Event()
    with open_channel(victim.address) as channel:
        begin: Any = channel.stream_stream(path)
        call = begin(without_end(body, told), metadata=metadata, timeout=WITHIN_S)
        with pytest.raises(grpc.RpcError):
            list(call)
        told.set()
    assert (call.code().name, reason_of(call)) == (code, reason)


def without_end(body: bytes, told: threading.Event) -> Iterator[bytes]:
    """Messages until somebody says that the answer is there."""
    while not told.is_set():
        yield body
        told.wait(0.01 if len(body) < MIB else 0)


def reason_of(call: Any) -> str:
    """The reason in a status' details; empty where gRPC itself refused."""
    status = rpc_status.from_call(call)
    details: Iterable[Any] = () if status is None else status.details
    for detail in details:
        info = ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
