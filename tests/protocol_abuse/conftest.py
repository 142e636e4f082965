"""One broker for all abuse, and a bystander who must notice nothing of it."""

import os
import time
from collections.abc import Iterator

import grpc
import psutil
import pytest

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from tests.integration.storage.stage import make_id
from tests.support.postgres import copied_database
from tests.support.processes import Processes, RunningBroker

_SLOWEST_S = 5.0


class Bystander:
    """Submits a task, reads it, cancels it: the whole path through the broker and its storage."""

    def __init__(self, broker: RunningBroker) -> None:
        self.broker = broker
        self.channel = grpc.insecure_channel(broker.address)
        self._heard = 0
        self._tasks = task_service_pb2_grpc.TaskServiceStub(self.channel)

    @property
    def memory_mib(self) -> float:
        """What the broker holds."""
        return float(psutil.Process(self.broker.process.pid).memory_info().rss) / 2**20

    def submit(self, count: int = 1, size_bytes: int = 2, queue: str = "quiet") -> list[str]:
        """Store tasks; their ids."""
        tasks = [
            task_pb2.NewTask(task_id=make_id(), name="abused", queue=queue, payload=b"x" * size_bytes)
            for _ in range(count)
        ]
        request = task_service_pb2.SubmitTasksRequest(tasks=tasks)
        answer = self._tasks.SubmitTasks(request, timeout=_SLOWEST_S)
        assert not [result for result in answer.results if result.HasField("error")]
        return [task.task_id for task in tasks]

    def look(self) -> None:
        """Everything works as if nothing had happened."""
        began = time.monotonic()
        (task_id,) = self.submit()
        found = self._tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id), timeout=_SLOWEST_S)
        assert found.task.task_id == task_id
        self._tasks.CancelTasks(task_service_pb2.CancelTasksRequest(task_ids=[task_id]), timeout=_SLOWEST_S)
        assert time.monotonic() - began < _SLOWEST_S
        assert self.broker.process.running
        said, self._heard = self.broker.process.output[self._heard :], len(self.broker.process.output)
        assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def abused(postgres_url: str, template_database: str) -> Iterator[Bystander]:
    """A bystander at a broker that others abuse."""
    with copied_database(postgres_url, template_database, f"hyrex_abuse_{os.getpid()}") as url:
        owner = Processes()
        bystander = Bystander(owner.broker(url, "--lease-duration", "2"))
        yield bystander
        bystander.channel.close()
        owner.end()


@pytest.fixture
def bystander(abused: Bystander) -> Iterator[Bystander]:
    """Looks before and after each test."""
    abused.look()
    yield abused
    abused.look()
