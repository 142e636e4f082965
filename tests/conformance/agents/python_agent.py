"""The conformance agent (AGENT.md) over the Python SDK: its transport, its watches, its worker."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, Final

import grpc.aio

from hyrex.backend.ids import new_task_id
from hyrex.client.remote import RemoteBackend
from hyrex.config import read_settings
from hyrex.errors import CallRejected
from hyrex.transport.channel import open_channel
from hyrex.transport.errors import call_failure
from hyrex.transport.kept_status import keep_status
from hyrex.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    schedule_pb2,
    schedule_service_pb2_grpc,
    task_pb2,
    task_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from hyrex.v1 import schedule_service_pb2 as schedules
from hyrex.v1 import task_service_pb2 as pb
from hyrex.v1 import workflow_service_pb2 as workflows
from tests.conformance.agents.python_calls import CALL_WITHIN_S, answer_to, repeated
from tests.conformance.agents.python_wire import (
    error_json,
    new_node,
    new_task,
    node_json,
    outcome_json,
    result_json,
    schedule_json,
    state_json,
)
from tests.conformance.agents.python_worker import PythonWorker
from tests.conformance.task_json import task_json
from tests.support.groups import grouped

LINE_LIMIT: Final = 64 * 1024 * 1024
FRAME_TASKS: Final = 100


class UnknownOp(Exception):
    """A command, or a behaviour, that this agent does not have."""


class Agent:
    """Carries out commands, one after the other."""

    def __init__(self) -> None:
        settings = read_settings()
        self._channel = open_channel(settings.broker_url, settings.token)
        self._stub: Any = task_service_pb2_grpc.TaskServiceStub(self._channel)
        self._admin: Any = admin_service_pb2_grpc.AdminServiceStub(self._channel)
        self._workflows: Any = workflow_service_pb2_grpc.WorkflowServiceStub(self._channel)
        self._schedules: Any = schedule_service_pb2_grpc.ScheduleServiceStub(self._channel)
        self._backend = RemoteBackend(settings)
        self._worker: PythonWorker | None = None

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """The answer to a command, its id left out."""
        act = OPS.get(command["op"])
        try:
            if act is None:
                raise UnknownOp(command["op"])
            return {"ok": await act(self, command)}
        except UnknownOp as error:
            return {"error": error_json("UNIMPLEMENTED", "UNKNOWN_OP", f"no {error} here", {})}
        except CallRejected as error:
            return {"error": error_json(error.code, error.reason, str(error), dict(error.metadata))}
        except grpc.aio.AioRpcError as error:
            failure = call_failure(error)
            metadata = dict(failure.metadata)
            return {"error": error_json(failure.code.name, failure.reason, failure.message, metadata)}

    async def close(self) -> None:
        """End the worker, as a crash would."""
        if self._worker is not None:
            await self._worker.close()

    async def submit(self, command: dict[str, Any]) -> dict[str, Any]:
        tasks = [new_task(task) for task in command["tasks"]]
        if command.get("stream"):
            results = await repeated(lambda: self._stream(tasks))
        else:
            request = pb.SubmitTasksRequest(tasks=tasks)
            results = list((await answer_to(self._stub.SubmitTasks, request)).results)
        return {"results": [result_json(result) for result in results]}

    async def _stream(self, tasks: list[task_pb2.NewTask]) -> list[pb.SubmitResult]:
        frames = [tasks[at : at + FRAME_TASKS] for at in range(0, len(tasks), FRAME_TASKS)]
        call = keep_status(self._stub.StreamSubmit(timeout=CALL_WITHIN_S))
        with contextlib.suppress(asyncio.InvalidStateError):  # it has ended: what it said is read below
            for sequence, frame in enumerate(frames):
                await call.write(pb.StreamSubmitRequest(sequence=sequence, groups=grouped(frame)))
            await call.done_writing()
        results = [pb.SubmitResult(task_id=task.task_id, outcome=pb.SUBMIT_OUTCOME_STORED) for task in tasks]
        answered = 0
        async for answer in call:
            answered += 1
            for placed in answer.results:
                results[answer.sequence * FRAME_TASKS + placed.place] = placed.result
        if answered < len(frames):  # a broker that goes ends the stream with OK
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
        return results

    async def get(self, command: dict[str, Any]) -> dict[str, Any]:
        request = pb.GetTaskRequest(task_id=command["task_id"])
        return {"task": task_json((await answer_to(self._stub.GetTask, request)).task)}

    async def list(self, command: dict[str, Any]) -> dict[str, Any]:
        request = pb.ListTasksRequest(
            queue=command.get("queue", ""),
            name=command.get("name", ""),
            statuses=[task_pb2.TaskStatus.Value(f"TASK_STATUS_{one}") for one in command.get("statuses", [])],
            page_size=command.get("page_size", 0),
            page_token=command.get("page_token", ""),
        )
        page = await answer_to(self._stub.ListTasks, request)
        return {"tasks": [task_json(task) for task in page.tasks], "next_page_token": page.next_page_token}

    async def wait(self, command: dict[str, Any]) -> dict[str, Any]:
        ids = command["task_ids"]
        seen = await self._backend.watch_async(ids, command["timeout_ms"] / 1000)
        for failure in seen.failures.values():
            raise failure
        states = [seen.states.get(task_id) for task_id in ids]
        done = all(state is not None and state.status.is_final for state in states)
        return {"done": done, "tasks": [state_json(state) for state in states if state is not None]}

    async def cancel(self, command: dict[str, Any]) -> dict[str, Any]:
        request = pb.CancelTasksRequest(task_ids=command["task_ids"], reason=command.get("reason", ""))
        results = (await answer_to(self._stub.CancelTasks, request)).results
        return {"results": [outcome_json(pb.CancelOutcome, "CANCEL_OUTCOME_", one) for one in results]}

    async def retry(self, command: dict[str, Any]) -> dict[str, Any]:
        request = pb.RetryTasksRequest(task_ids=command["task_ids"])
        results = (await answer_to(self._stub.RetryTasks, request)).results
        return {"results": [outcome_json(pb.RetryOutcome, "RETRY_OUTCOME_", one) for one in results]}

    async def dismiss(self, command: dict[str, Any]) -> dict[str, Any]:
        request = pb.DismissTasksRequest(task_ids=command["task_ids"])
        results = (await answer_to(self._stub.DismissTasks, request)).results
        return {"results": [outcome_json(pb.DismissOutcome, "DISMISS_OUTCOME_", one) for one in results]}

    async def replay(self, command: dict[str, Any]) -> dict[str, Any]:
        new_id = command.get("new_task_id") or new_task_id()
        request = pb.ReplayTaskRequest(task_id=command["task_id"], new_task_id=new_id)
        if "payload" in command:
            request.payload = json.dumps(command["payload"], ensure_ascii=False).encode()
        return {"result": result_json((await answer_to(self._stub.ReplayTask, request)).result)}

    async def complete(self, command: dict[str, Any]) -> dict[str, Any]:
        request = pb.CompleteTasksRequest(task_ids=command["task_ids"], reason=command.get("reason", ""))
        if "error" in command:
            request.error.CopyFrom(task_pb2.RunError(**command["error"]))
        else:
            request.result.result = json.dumps(command["result"], ensure_ascii=False).encode()
        results = (await answer_to(self._stub.CompleteTasks, request)).results
        return {"results": [outcome_json(pb.CompleteOutcome, "COMPLETE_OUTCOME_", one) for one in results]}

    async def submit_workflow(self, command: dict[str, Any]) -> dict[str, Any]:
        request = workflows.SubmitWorkflowRequest(
            root=new_task(command["root"]),
            nodes=[new_node(node) for node in command["nodes"]],
            fail_fast=command.get("fail_fast", False),
        )
        return {"result": result_json((await answer_to(self._workflows.SubmitWorkflow, request)).root)}

    async def get_workflow(self, command: dict[str, Any]) -> dict[str, Any]:
        request = workflows.GetWorkflowRequest(task_id=command["task_id"])
        answer = await answer_to(self._workflows.GetWorkflow, request)
        nodes = [node_json(node) for node in answer.nodes]
        return {"root": task_json(answer.root), "nodes": nodes, "fail_fast": answer.fail_fast}

    async def schedule_put(self, command: dict[str, Any]) -> dict[str, Any]:
        task = new_task(command["task"])
        task.ClearField("task_id")
        definition = schedule_pb2.ScheduleDefinition(
            name=command["name"], cron=command["cron"], timezone=command.get("timezone", ""), task=task
        )
        request = schedules.PutScheduleRequest(definition=definition)
        answer = await answer_to(self._schedules.PutSchedule, request)
        return {"changed": answer.changed, "schedule": schedule_json(answer.schedule)}

    async def schedule_get(self, command: dict[str, Any]) -> dict[str, Any]:
        request = schedules.GetScheduleRequest(name=command["name"])
        answer = await answer_to(self._schedules.GetSchedule, request)
        slots = [
            {
                "task_id": slot.task_id,
                "cause": schedules.SlotCause.Name(slot.cause).removeprefix("SLOT_CAUSE_"),
            }
            for slot in answer.slots
        ]
        return {"schedule": schedule_json(answer.schedule), "slots": slots}

    async def schedule_pause(self, command: dict[str, Any]) -> dict[str, Any]:
        request = schedules.PauseScheduleRequest(name=command["name"], resume=command.get("resume", False))
        answer = await answer_to(self._schedules.PauseSchedule, request)
        return {"schedule": schedule_json(answer.schedule)}

    async def schedule_trigger(self, command: dict[str, Any]) -> dict[str, Any]:
        request = schedules.TriggerScheduleRequest(name=command["name"])
        return {"task_id": (await answer_to(self._schedules.TriggerSchedule, request)).task_id}

    async def schedule_delete(self, command: dict[str, Any]) -> dict[str, Any]:
        request = schedules.DeleteScheduleRequest(name=command["name"])
        await answer_to(self._schedules.DeleteSchedule, request)
        return {}

    async def worker_start(self, command: dict[str, Any]) -> dict[str, Any]:
        try:
            self._worker = await PythonWorker.start(command)
        except LookupError as error:
            raise UnknownOp(f"behaviour {error}") from None
        request = admin_service_pb2.ListWorkersRequest(page_size=1000)
        workers = (await self._admin.ListWorkers(request, timeout=CALL_WITHIN_S)).workers
        return {"session_id": next(one.session_id for one in workers if one.worker_name == command["name"])}

    async def worker_stats(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._worker is not None
        return {"executed": self._worker.executed, "running": self._worker.running}

    async def worker_drain(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._worker is not None
        await self._worker.drain()
        return {}

    async def worker_stop(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._worker is not None
        await self._worker.stop()
        return {}


Op = Callable[[Agent, dict[str, Any]], Awaitable[dict[str, Any]]]
OPS: Final[dict[str, Op]] = {
    name: getattr(Agent, name)
    for name in (
        "submit", "get", "list", "wait", "cancel", "retry", "replay", "dismiss",
        "complete", "submit_workflow", "get_workflow",
        "schedule_put", "schedule_get", "schedule_pause", "schedule_trigger", "schedule_delete",
        "worker_start", "worker_stats", "worker_drain", "worker_stop",
    )
}  # fmt: skip


async def main() -> None:
    """Answer until stdin ends."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    agent = Agent()
    say({"ready": True, "language": "python", "client": f"hyrex-python/{version('hyrex')}"})
    try:
        while line := await reader.readline():
            command = json.loads(line)
            say({"id": command["id"]} | await agent.answer(command))
    finally:
        await agent.close()
        os._exit(0)  # at once, as told: no thread of the SDK is waited for


def say(answer: dict[str, Any]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
