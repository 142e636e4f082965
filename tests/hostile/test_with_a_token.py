"""Who has a token may still not fill the memory, or hold the loop, with messages that grow when parsed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.embedded import EmbeddedPostgres
from tests.hostile.victim import BEARER, TOKEN, WITHIN_S, Victim, at_once, code_of, open_channel, send
from tests.integration.storage.stage import make_id
from tests.support.eventually import eventually
from tests.support.groups import grouped
from tests.support.processes import Processes

TASKS: Final = "/hyrex.v1.TaskService/"
WORK: Final = "/hyrex.v1.WorkerService/Work"
MIB: Final = 2**20
MILLIONS: Final = 7_800_000


def field(number: int, body: bytes) -> bytes:
    """A field of bytes, text, a message or packed numbers."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def empties(number: int) -> bytes:
    return bytes([number << 3 | 2, 0]) * MILLIONS


EXPLODING: Final = {
    "empty tasks in a call": (f"{TASKS}SubmitTasks", empties(1)),
    "empty groups in a frame": (f"{TASKS}StreamSubmit", empties(2)),
    "empty payloads in a group": (f"{TASKS}StreamSubmit", field(2, empties(3))),
    "empty headers in a group": (f"{TASKS}StreamSubmit", field(2, empties(4))),
    "headers of one task of a group": (f"{TASKS}StreamSubmit", field(2, field(4, empties(1)))),
    "empty ids": (f"{TASKS}CancelTasks", empties(1)),
    "packed statuses": (f"{TASKS}ListTasks", field(5, b"\x01" * 15 * MIB)),
    "headers of one task": (f"{TASKS}SubmitTasks", field(1, empties(15))),
    "unknown fields": (f"{TASKS}GetTask", b"\xf8\x07\x01" * 5_000_000),
    "a group of nothing": (f"{TASKS}GetTask", b"\xfb\x07\xfc\x07" * 3_900_000),
    "definitions in Hello": (WORK, field(1, empties(10))),
    "patterns in Hello": (WORK, field(1, empties(9))),
    "packed tokens in a heartbeat": (WORK, field(3, field(2, b"\x01" * 15 * MIB))),
    "empty runs in a report": (WORK, field(4, empties(2))),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLODING)
def test_a_message_of_millions_is_refused_unparsed(victim: Victim, name: str) -> None:
    method, body = EXPLODING[name]
    with open_channel(victim.address) as channel, victim.watched() as damage:
        codes = at_once([partial(send, channel, method, body, metadata=BEARER)] * 4)
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    damage.is_little(peak_mib=200)


def test_many_large_bodies_at_once_hold_nobody_up(victim: Victim) -> None:
    """Twenty of 15 MiB stopped the loop for eight seconds."""
    body = field(1, field(4, bytes(15 * MIB)))
    with open_channel(victim.address) as channel, victim.watched() as damage:
        at_once([partial(send, channel, f"{TASKS}SubmitTasks", body, metadata=BEARER)] * 20)
    damage.is_little(peak_mib=900)


def test_what_is_in_flight_is_bounded_while_the_database_is_away(
    private_postgres: EmbeddedPostgres, processes: Processes
) -> None:
    """Ten streams took a broker to 2,476 MiB. Beyond its bounds a broker says when to come back."""
    broker = processes.broker(private_postgres.url, env={"HYREX_TOKEN": TOKEN})
    victim = Victim(processes, broker)
    channels = [open_channel(broker.address) for _ in range(10)]
    with victim.watched() as damage:
        private_postgres.kill()
        refusals = at_once_refused([partial(flood, channel) for channel in channels])
        private_postgres.start()
    assert damage.peak_mib < 800, damage.peak_mib
    over = [error for error in refusals if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert over, [error.code() for error in refusals]
    assert all(may_be_repeated(error) for error in over)
    eventually(lambda: code_of(partial(victim.submit, 1)) is grpc.StatusCode.OK)
    for channel in channels:
        channel.close()


def flood(channel: grpc.Channel) -> Any:
    """Frames of 15 MiB, as many as are taken; its end is a status."""

    def frames() -> Iterator[bytes]:
        for sequence in range(20):
            tasks = [
                task_pb2.NewTask(task_id=make_id(), name="flood", queue="flood", payload=bytes(3 * MIB))
                for _ in range(5)
            ]
            frame = task_service_pb2.StreamSubmitRequest(sequence=sequence, groups=grouped(tasks))
            yield frame.SerializeToString()

    stream: Any = channel.stream_stream
    return list(stream(f"{TASKS}StreamSubmit")(frames(), timeout=WITHIN_S, metadata=BEARER))


def at_once_refused(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The errors that calls, made at once, end with."""

    def refused(call: Callable[[], Any]) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return caught.value

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(refused, calls))


def may_be_repeated(error: Any) -> bool:
    """Return True if a status says when."""
    status = rpc_status.from_call(error)
    return status is not None and any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
