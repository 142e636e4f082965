"""Patterns are the worker's to choose and the broker's to match: what they cost is bounded."""

import threading
from typing import Final

import grpc

from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc, task_service_pb2, task_service_pb2_grpc
from hyrex.v1 import worker_service_pb2 as wire
from tests.hostile.victim import BEARER, WITHIN_S, Victim, open_channel
from tests.hostile.worker import RawWorker
from tests.protocol_abuse.abuser import reason_of

_QUEUES: Final = 1000
_PEAK_MIB: Final = 100.0


def _stars(count: int, stars: int, number: int = 0) -> list[str]:
    """Patterns that nearly fit: each part occurs, the last one does not."""
    return [f"*a{'*a' * (stars - 2)}*{number}-{place}x" for place in range(count)]


def _worker(victim: Victim, patterns: list[str], tasks: int) -> RawWorker:
    definitions = [wire.TaskDefinition(name=f"starred-{n}", pool="all") for n in range(tasks - 1)]
    definitions.append(wire.TaskDefinition(name="attacked", pool="all"))
    return RawWorker(open_channel(victim.address), queue_patterns=patterns, tasks=definitions)


def _refusal(worker: RawWorker) -> tuple[grpc.StatusCode, str, str]:
    code = worker.code()
    return code, reason_of(worker.call), worker.call.details()


def test_a_hello_with_many_stars_is_refused_by_name_and_costs_nobody_anything(victim: Victim) -> None:
    """The Hello of the report: 0.72 MiB, 1,000 patterns, 2,000 tasks. It held the loop for 30 s."""
    for number in range(0, _QUEUES, 100):
        victim.submit(1, queue=f"{'a' * 240}-{number}")
    with victim.watched() as damage:
        many = _worker(victim, _stars(1000, 127), 2000)
        assert _refusal(many)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ITEMS")
        starred = _stars(1, 127)
        code, reason, details = _refusal(_worker(victim, starred, 2000))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert starred[0][:50] in details
        assert "at most 4 stars" in details
    damage.is_little(peak_mib=_PEAK_MIB)


def test_as_many_patterns_as_are_allowed_hold_nobody_up(victim: Victim) -> None:
    """Twenty workers with a hundred patterns each, a thousand queues, and all that matches them at once."""
    for number in range(_QUEUES):
        victim.submit(1, queue=f"{'a' * 200}-{number}")
    queues = queue_service_pb2_grpc.QueueServiceStub(victim.channel)
    tasks = task_service_pb2_grpc.TaskServiceStub(victim.channel)

    def list_queues() -> None:
        request = queue_service_pb2.ListQueuesRequest(page_size=1000)
        queues.ListQueues(request, timeout=WITHIN_S, metadata=BEARER)

    def list_tasks() -> None:
        tasks.ListTasks(task_service_pb2.ListTasksRequest(), timeout=WITHIN_S, metadata=BEARER)

    with victim.watched() as damage:
        workers = [_worker(victim, _stars(100, 4, number), 100) for number in range(20)]
        threads = [threading.Thread(target=call) for call in (list_queues, list_tasks, list_queues)]
        for thread in threads:
            thread.start()
        for worker in workers:
            worker.welcome()
        for thread in threads:
            thread.join()
    damage.is_little(peak_mib=_PEAK_MIB)
    for worker in workers:
        worker.close()
