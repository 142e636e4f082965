"""A TaskService on a real channel that does what a test says: hold, fail, forget, answer.

It controls timing, which a real broker would not allow; what a broker stores is tested elsewhere.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hyrex.client import close_client
from hyrex.v1 import (
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)
from tests.support.groups import placed, ungrouped

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Answer = Callable[[task_pb2.NewTask], task_service_pb2.SubmitResult]


def stored(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
    """The answer of a broker that has room."""
    return task_service_pb2.SubmitResult(task_id=task.task_id, outcome=task_service_pb2.SUBMIT_OUTCOME_STORED)


def rejected(reason: str, message: str = "no", **metadata: str) -> Answer:
    """An answer that refuses every task."""

    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        return task_service_pb2.SubmitResult(
            task_id=task.task_id,
            outcome=task_service_pb2.SUBMIT_OUTCOME_REJECTED,
            error=task_service_pb2.ItemError(code=3, reason=reason, message=message, metadata=metadata),
        )

    return answer


def refuse(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str = "",
    retry: Duration | None = None,
    **metadata: str,
) -> Any:
    """End a call as a broker does: status, and the reason in its details."""
    if reason:
        detail = Packed()
        detail.Pack(ErrorInfo(domain="hyrex.dev", reason=reason, metadata=metadata))
        status = Status(code=code.value[0], message="scripted", details=[detail])
        if retry is not None:
            status.details.add().Pack(RetryInfo(retry_delay=retry))
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, "scripted")


class ScriptedTasks(task_service_pb2_grpc.TaskServiceServicer):
    """What came, and what to do about it."""

    def __init__(self) -> None:
        self.frames: list[list[task_pb2.NewTask]] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.answer: Answer = stored
        self.failures: list[Callable[[grpc.ServicerContext], None]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        self.tasks: dict[str, task_pb2.Task] = {}
        self.changed = threading.Condition()
        self.lingers = threading.Event()
        """Whether a watch goes on when it has told everything."""
        self.workflows: list[workflow_service_pb2.SubmitWorkflowRequest] = []
        self.watches: list[list[str]] = []
        self.cancelled: list[str] = []
        self.health: int | None = None
        """What it says of itself; None: it has no such service."""
        self.asked = threading.Semaphore(0)

    @property
    def submitted(self) -> list[task_pb2.NewTask]:
        """Every task of every frame."""
        return [task for frame in self.frames for task in frame]

    def SubmitTasks(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.frames.append(list(request.tasks))
        if self.failures:
            self.failures.pop(0)(context)
        return task_service_pb2.SubmitTasksResponse(results=map(self.answer, request.tasks))

    def StreamSubmit(  # noqa: N802
        self, request_iterator: Iterator[task_service_pb2.StreamSubmitRequest], context: Any
    ) -> Iterator[task_service_pb2.StreamSubmitResponse]:
        """Frames at once, in threads of their own, as a broker would."""
        made: SimpleQueue[Callable[[], task_service_pb2.StreamSubmitResponse] | None] = SimpleQueue()

        def answer(request: task_service_pb2.StreamSubmitRequest) -> None:
            self.frames.append(list(ungrouped(request.groups)))
            self.metadata.append(dict(context.invocation_metadata()))
            self.arrived.release()
            self.gate.wait(30)
            failure = self.failures.pop(0) if self.failures else None
            made.put(lambda: self._answered(request, context, failure))

        def read() -> None:
            try:
                for request in request_iterator:
                    threading.Thread(target=answer, args=(request,), daemon=True).start()
            except grpc.RpcError:
                pass  # the client is gone
            made.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (make := made.get()) is not None:
            yield make()

    def _answered(
        self,
        request: task_service_pb2.StreamSubmitRequest,
        context: Any,
        failure: Callable[[grpc.ServicerContext], None] | None,
    ) -> task_service_pb2.StreamSubmitResponse:
        if failure is not None:
            failure(context)
        results = [*map(self.answer, ungrouped(request.groups))]
        return task_service_pb2.StreamSubmitResponse(sequence=request.sequence, results=placed(results))

    def GetTask(  # noqa: N802
        self, request: task_service_pb2.GetTaskRequest, context: Any
    ) -> task_service_pb2.GetTaskResponse:
        if self.failures:
            self.failures.pop(0)(context)
        if request.task_id not in self.tasks:
            refuse(context, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND", task_id=request.task_id)
        return task_service_pb2.GetTaskResponse(task=self.tasks[request.task_id])

    def CancelTasks(  # noqa: N802
        self, request: task_service_pb2.CancelTasksRequest, context: Any
    ) -> task_service_pb2.CancelTasksResponse:
        self.cancelled += request.task_ids
        known = task_service_pb2.CANCEL_OUTCOME_CANCELLED
        unknown = task_service_pb2.CANCEL_OUTCOME_NOT_FOUND
        finished = task_service_pb2.CANCEL_OUTCOME_FINISHED
        results = []
        for task_id in request.task_ids:
            task = self.tasks.get(task_id)
            ended = task is not None and task.status == task_pb2.TASK_STATUS_COMPLETED
            outcome = unknown if task is None else finished if ended else known
            results.append(task_service_pb2.CancelResult(task_id=task_id, outcome=outcome))
        return task_service_pb2.CancelTasksResponse(results=results)

    def WatchTasks(  # noqa: N802
        self, request: task_service_pb2.WatchTasksRequest, context: Any
    ) -> Iterator[task_service_pb2.WatchTasksResponse]:
        self.watches.append(list(request.task_ids))
        self.arrived.release()
        if self.failures:
            self.failures.pop(0)(context)
        for task_id in request.task_ids:
            if task_id not in self.tasks:
                refuse(context, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND", task_id=task_id)
        told: dict[str, int] = {}
        while context.is_active():
            with self.changed:
                now = [self.tasks[task_id] for task_id in request.task_ids]
                news = [task for task in now if told.get(task.task_id) != task.status]
                if not news:
                    self.changed.wait(0.05)
                    continue
            told |= {task.task_id: task.status for task in news}
            yield task_service_pb2.WatchTasksResponse(tasks=news)
            if all(status in FINAL for status in told.values()) and not self.lingers.is_set():
                return

    def ListTasks(self, request: Any, context: Any) -> Any:  # noqa: N802
        refuse(context, grpc.StatusCode.UNIMPLEMENTED)

    def CountTasks(self, request: Any, context: Any) -> Any:  # noqa: N802
        refuse(context, grpc.StatusCode.UNIMPLEMENTED)

    def RetryTasks(self, request: Any, context: Any) -> Any:  # noqa: N802
        refuse(context, grpc.StatusCode.UNIMPLEMENTED)

    def DismissTasks(self, request: Any, context: Any) -> Any:  # noqa: N802
        refuse(context, grpc.StatusCode.UNIMPLEMENTED)

    def CompleteTasks(self, request: Any, context: Any) -> Any:  # noqa: N802
        refuse(context, grpc.StatusCode.UNIMPLEMENTED)

    def ReplayTask(self, request: Any, context: Any) -> Any:  # noqa: N802
        refuse(context, grpc.StatusCode.UNIMPLEMENTED)

    def put(self, task: task_pb2.Task) -> None:
        """Let a task stand as this says."""
        with self.changed:
            self.tasks[task.task_id] = task
            self.changed.notify_all()


class ScriptedWorkflows(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """Notes what comes, and answers for a workflow's own task as the tasks beside it do."""

    def __init__(self, tasks: ScriptedTasks) -> None:
        self.tasks = tasks

    def SubmitWorkflow(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.tasks.workflows.append(request)
        self.tasks.arrived.release()
        if self.tasks.failures:
            self.tasks.failures.pop(0)(context)
        return workflow_service_pb2.SubmitWorkflowResponse(root=self.tasks.answer(request.root))

    def GetWorkflow(self, request: Any, context: Any) -> Any:  # noqa: N802
        for sent in self.tasks.workflows:
            if sent.root.task_id == request.task_id:
                root = task_pb2.Task(
                    task_id=sent.root.task_id, name=sent.root.name, headers=sent.root.headers
                )
                nodes = [
                    workflow_service_pb2.WorkflowNodeState(
                        task=task_pb2.Task(task_id=each.task.task_id),
                        name=each.name,
                        upstreams=each.upstreams,
                    )
                    for each in sent.nodes
                ]
                return workflow_service_pb2.GetWorkflowResponse(root=root, nodes=nodes)
        return refuse(context, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")


class ScriptedHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # no types in grpc_health
    """Says what the tasks beside it say."""

    def __init__(self, tasks: ScriptedTasks) -> None:
        self.tasks = tasks

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.tasks.health is None:
            refuse(context, grpc.StatusCode.UNIMPLEMENTED)
        self.tasks.asked.release()
        return health_pb2.HealthCheckResponse(status=self.tasks.health)


FINAL = frozenset(range(task_pb2.TASK_STATUS_COMPLETED, task_pb2.TASK_STATUS_LOST + 1))


class Server:
    """A server for scripted tasks; it can be stopped and started again on its port."""

    def __init__(self, tasks: ScriptedTasks, port: int = 0) -> None:
        self.tasks = tasks
        self.port = port
        self._server: grpc.Server | None = None
        self.start()

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"grpc://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen."""
        self._server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(self.tasks, self._server)
        workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(
            ScriptedWorkflows(self.tasks), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(ScriptedHealth(self.tasks), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cut every connection."""
        if self._server is not None:
            self._server.stop(None).wait(5)
            self._server = None


def names(tasks: Iterable[task_pb2.NewTask]) -> list[str]:
    """The names of tasks, in order."""
    return [task.name for task in tasks]


@pytest.fixture
def tasks() -> ScriptedTasks:
    """A task service that does what the test says."""
    return ScriptedTasks()


@pytest.fixture
def server(tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server for it, which this process sends to."""
    running = Server(tasks)
    monkeypatch.setenv("HYREX_BROKER_URL", running.url)
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "30")  # a loaded machine is not what these tests are about
    monkeypatch.delenv("HYREX_TOKEN", raising=False)
    yield running
    close_client()
    tasks.gate.set()
    running.stop()
