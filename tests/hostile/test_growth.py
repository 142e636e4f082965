"""What one connection may open in numbers takes little memory, and keeps nobody waiting."""

from collections.abc import Iterator
from threading import Event
from typing import Any, Final

from hyrex.v1 import task_service_pb2, task_service_pb2_grpc
from hyrex.v1 import worker_service_pb2 as wire
from tests.hostile.victim import BEARER, WITHIN_S, Victim, open_channel
from tests.protocol_abuse.abuser import hello, work

WATCHES: Final = 30
SESSIONS: Final = 100


def test_many_watches_of_a_connection_take_little_memory(victim: Victim) -> None:
    """30,000 tasks watched: each about half a kilobyte."""
    ids = victim.submit(1000, queue="watched")
    request = task_service_pb2.WatchTasksRequest(task_ids=ids)
    with open_channel(victim.address) as channel, victim.watched() as damage:
        watch = task_service_pb2_grpc.TaskServiceStub(channel).WatchTasks
        calls = [watch(request, timeout=2 * WITHIN_S, metadata=BEARER) for _ in range(WATCHES)]
        told = [next(call) for call in calls]
        for call in calls:
            call.cancel()
    assert all(frame.tasks for frame in told)
    damage.is_little(peak_mib=100, longest_s=WITHIN_S)


def test_many_sessions_of_a_connection_take_little_memory(victim: Victim) -> None:
    leave = Event()

    def frames() -> Iterator[bytes]:
        yield hello().SerializeToString()
        leave.wait(2 * WITHIN_S)
        yield wire.WorkRequest(goodbye=wire.Goodbye()).SerializeToString()

    with open_channel(victim.address) as channel, victim.watched() as damage:
        method: Any = work(channel)
        calls = [method(frames(), timeout=3 * WITHIN_S, metadata=BEARER) for _ in range(SESSIONS)]
        welcomes = [next(call) for call in calls]
        leave.set()
        for call in calls:
            list(call)
    assert len({each.welcome.session_id for each in welcomes}) == SESSIONS
    damage.is_little(peak_mib=100, longest_s=WITHIN_S)
