"""A flood into a queue that has a maximum: little of it is kept, and a neighbour's sends go on."""

from collections.abc import Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import (
    queue_service_pb2,
    queue_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from hyrex.v1.task_service_pb2 import SubmitResult
from tests.hostile.victim import BEARER, WITHIN_S, Victim, at_once, open_channel
from tests.integration.storage.stage import make_id

MOST: Final = 2000
FRAME: Final = 500
FRAMES: Final = 24
PAYLOAD: Final = bytes(8192)


def test_a_flood_into_a_full_queue_is_refused_and_a_neighbour_goes_on(victim: Victim) -> None:
    """94 MiB in 12,000 tasks, of which a sixth may wait; a neighbour sends to another queue meanwhile."""
    queues = queue_service_pb2_grpc.QueueServiceStub(victim.channel)
    bound = queue_service_pb2.UpdateQueueRequest(name="full", max_waiting=MOST, paused=True)
    queues.UpdateQueue(bound, timeout=WITHIN_S, metadata=BEARER)
    results: list[SubmitResult] = []
    neighbours: list[str] = []

    def flood() -> None:
        with open_channel(victim.address) as channel:
            for _ in range(FRAMES // 4):
                results.extend(submitted(task_service_pb2_grpc.TaskServiceStub(channel)))
            neighbours.extend(victim.submit(1, queue="neighbour"))

    with victim.watched() as damage:
        at_once([flood] * 4, threads=4)
    assert len(results) == FRAME * FRAMES
    assert len(neighbours) == 4
    refused = [result.error for result in results if result.HasField("error")]
    assert {(error.reason, error.code) for error in refused} == {("QUOTA_EXCEEDED", 8)}
    assert all(Duration() != error.retry_delay for error in refused)
    # Half of the room is given before the next look, which may count twice what is being stored meanwhile.
    assert MOST // 2 <= len(results) - len(refused) <= 2 * MOST
    assert waiting(queues) <= 2 * MOST
    damage.is_little(peak_mib=300, longest_s=WITHIN_S)
    queues.PurgeQueue(queue_service_pb2.PurgeQueueRequest(name="full"), timeout=WITHIN_S, metadata=BEARER)


def submitted(stub: task_service_pb2_grpc.TaskServiceStub) -> Iterable[SubmitResult]:
    """The answers to a frame of the flood."""
    tasks = [
        task_pb2.NewTask(task_id=make_id(), name="flooded", queue="full", payload=PAYLOAD)
        for _ in range(FRAME)
    ]
    request = task_service_pb2.SubmitTasksRequest(tasks=tasks)
    return stub.SubmitTasks(request, timeout=2 * WITHIN_S, metadata=BEARER).results


def waiting(queues: queue_service_pb2_grpc.QueueServiceStub) -> int:
    """How many tasks are in it."""
    request = queue_service_pb2.GetQueueRequest(name="full")
    return queues.GetQueue(request, timeout=WITHIN_S, metadata=BEARER).queue.queued
