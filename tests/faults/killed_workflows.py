"""Workflows of which brokers are killed between every two statements."""

from pathlib import Path as FilePath
from typing import Any

import grpc

from hyrex.v1.task_pb2 import TASK_STATUS_FAILED
from hyrex.v1.task_service_pb2 import CancelTasksRequest, GetTaskRequest, RetryTasksRequest
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from hyrex.v1.workflow_service_pb2 import SubmitWorkflowRequest
from hyrex.v1.workflow_service_pb2_grpc import WorkflowServiceStub
from tests.chaos.record import digest
from tests.faults.doomed import Doomed
from tests.faults.killed import Path
from tests.integration.engine.workflow_runs import sent
from tests.integration.storage.stage import Stage
from tests.support.eventually import eventually
from tests.support.ports import free_port

RETRIED, CANCELLED = 3, 4
"""Numbers of the points at which a retry and a cancel of a workflow are answered."""


def _runs(name: str, payload: bytes) -> dict[str, Any]:
    return {"name": name, "payload": payload}


class Workflows(Path):
    """They are sent, run by a worker, retried and cancelled; what was not answered is sent again."""

    loops = ("Nodes.run",)
    points = (
        "submit.submit_workflow",
        "workflows.advance",
        "Sweep.run: workflows.due",
        "workflows.retry",
        "cancel.cancel_blocked",
        "Nodes.run: workflows.given_up",
        "Nodes.run: cancel.cancel",
    )
    sometimes = ("Nodes.run: cancel.cancel_blocked",)
    """A node that is given up while it waits for others: whether one does depends on who comes first."""

    def __post_init__(self) -> None:
        self.listen = f"127.0.0.1:{free_port()}"
        once, never = _runs("once", b'{"number": 1}'), self.field.directory / "never"
        fails = _runs("fails", b"{}")
        waits = _runs("until", b'{"path": "%s"}' % str(FilePath(never)).encode())
        graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
        self.complete = [
            sent(graph, fail_fast=False, queue="default", **dict.fromkeys(graph, once))
            for _ in range(RETRIED)
        ]
        self.failing = sent({"x": [], "y": ["x"]}, x=fails, y=once)
        self.cancelled = sent({"h": [], "z": ["h"]}, h=waits, z=once)
        self.roots = [*self.complete, self.failing, self.cancelled]

    def ask(self, broker: Doomed, number: int) -> None:
        """Send what is to be sent by now, what was not answered again; then retry or cancel one."""
        with grpc.insecure_channel(broker.url().removeprefix("grpc://")) as channel:
            for request in self.roots[: number + 1]:
                WorkflowServiceStub(channel).SubmitWorkflow(request, timeout=60)
            if not number:
                return
            if number == 1:
                self.field.worker(f"grpc://{self.listen}")
            tasks = TaskServiceStub(channel)
            if number == RETRIED:
                asked = GetTaskRequest(task_id=self.failing.root.task_id)
                eventually(lambda: tasks.GetTask(asked).task.status == TASK_STATUS_FAILED)
                tasks.RetryTasks(RetryTasksRequest(task_ids=[asked.task_id]), timeout=60)
            if number == CANCELLED:
                root = self.cancelled.root.task_id
                tasks.CancelTasks(CancelTasksRequest(task_ids=[root]), timeout=60)

    async def is_done(self, stage: Stage) -> bool:
        """All have ended, with all of their nodes."""
        ended = "select count(*) = 0 from live"
        return bool(await stage.execute(ended))

    async def check(self, stage: Stage) -> None:
        """Each node that was to run ran once; that of the retried one, which fails, twice."""
        executions = digest(self.field.journal.read()).executions

        def counts(request: SubmitWorkflowRequest) -> dict[str, int]:
            return {node.name: len(executions.get(node.task.task_id, ())) for node in request.nodes}

        assert [counts(each) for each in self.complete] == [{"a": 1, "b": 1, "c": 1, "d": 1}] * RETRIED
        assert counts(self.failing) == {"x": 2, "y": 0}
        assert counts(self.cancelled)["z"] == 0
        ends = "select outcome from task_run where task_id = $1 and final order by run_number desc limit 1"
        outcomes = [await stage.execute(ends, each.root.task_id) for each in self.roots]
        assert outcomes == [2] * RETRIED + [3, 5]
