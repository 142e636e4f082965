"""Submits of tasks that go straight to a worker, of which brokers are killed after the commit."""

import json
from typing import Final

import grpc

from hyrex.v1.task_pb2 import NewTask
from hyrex.v1.task_service_pb2 import SubmitTasksRequest
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from hyrex_broker.domain.model import TaskId
from tests.chaos.record import digest
from tests.faults.doomed import Doomed
from tests.faults.killed import Path
from tests.integration.storage.stage import Stage, make_id
from tests.support.eventually import eventually
from tests.support.ports import free_port

_PAIR: Final = 2


class KeyedHandOff(Path):
    """Pairs of tasks of one key: the first is leased by the statement that stores it, whose maker is
    killed before it has told the worker or the client."""

    points = ("submit.submit_keyed_handing_off",)

    def __post_init__(self) -> None:
        self.listen = f"127.0.0.1:{free_port()}"
        self.sent: list[TaskId] = []

    def ask(self, broker: Doomed, number: int) -> None:
        """Pairs of tasks, until one finds the worker: before that they are stored by another statement."""
        if not number:
            self.field.worker(f"grpc://{self.listen}")
        with grpc.insecure_channel(broker.url().removeprefix("grpc://")) as channel:
            tasks = TaskServiceStub(channel)
            self._submit(tasks)
            eventually(lambda: broker.point is None or self._submit(tasks))

    def _submit(self, tasks: "TaskServiceStub") -> bool:
        """Return False: a broker that is to be killed by it is there still."""
        pair = [
            NewTask(
                task_id=make_id(), name="alone_once", queue="default",
                concurrency_key=f"pair {len(self.sent)}",
                payload=json.dumps({"number": each, "fails": False}).encode(),
            )
            for each in range(_PAIR)
        ]  # fmt: skip
        self.sent += [TaskId(each.task_id) for each in pair]
        tasks.SubmitTasks(SubmitTasksRequest(tasks=pair), timeout=60)
        return False

    async def is_done(self, stage: Stage) -> bool:
        """All that were stored have ended, and nobody has a seat."""
        ended = (
            "select not exists (select from seat) and (select count(*) from task) > $1"
            " and (select count(*) from task) = (select count(*) from task_run where final)"
        )
        return bool(await stage.execute(ended, _PAIR))

    async def check(self, stage: Stage) -> None:
        """Each was executed once."""
        executions = digest(self.field.journal.read()).executions
        stored = [str(row[0]) for row in await stage.database.fetch("select id from task")]
        assert {*stored} <= {*self.sent}
        assert {task_id: len(executions[task_id]) for task_id in stored} == dict.fromkeys(stored, 1)
