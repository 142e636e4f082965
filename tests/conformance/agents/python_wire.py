"""What the Python agent reads and says (AGENT.md), as messages of the wire."""

import base64
import json
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration

from hyrex.backend.ids import new_task_id
from hyrex.v1 import schedule_service_pb2 as schedules
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as pb
from hyrex.v1 import workflow_service_pb2 as workflows
from tests.conformance.task_json import task_json

TEXTS: Final = (
    "content_type",
    "idempotency_key",
    "parent_id",
    "root_id",
    "debounce_key",
    "concurrency_key",
    "fair_key",
)
PLAIN: Final = ("priority", "max_retries", "max_per_key", "outside")
DURATIONS: Final = {
    "timeout_ms": "timeout",
    "delay_ms": "delay",
    "retry_delay_ms": "retry_delay",
    "expires_in_ms": "expires_in",
    "debounce_max_wait_ms": "debounce_max_wait",
}


def new_task(task: dict[str, Any]) -> task_pb2.NewTask:
    """TASK of AGENT.md on the wire."""
    if "payload_base64" in task:
        payload = base64.b64decode(task["payload_base64"])
    else:
        payload = json.dumps(task.get("payload", {}), ensure_ascii=False).encode()
    made = task_pb2.NewTask(
        task_id=task.get("task_id") or new_task_id(),
        name=task["name"],
        queue=task.get("queue", "default"),
        payload=payload,
        headers=task.get("headers", {}),
        labels=task.get("labels", {}),
    )
    for field in (*TEXTS, *PLAIN):
        if field in task:
            setattr(made, field, task[field])
    if task.get("refuses"):
        made.on_full = task_pb2.ON_FULL_REFUSE
    for field, name in DURATIONS.items():
        if field in task:
            getattr(made, name).CopyFrom(
                Duration(seconds=task[field] // 1000, nanos=task[field] % 1000 * 10**6)
            )
    return made


def new_node(node: dict[str, Any]) -> workflows.WorkflowNode:
    """N of AGENT.md on the wire."""
    return workflows.WorkflowNode(
        task=new_task(node["task"]),
        name=node["name"],
        upstreams=[workflows.Upstream(**upstream) for upstream in node.get("upstreams", [])],
        approval=node.get("approval", False),
    )


def node_json(node: workflows.WorkflowNodeState) -> dict[str, Any]:
    """How a node stands."""
    upstreams = [
        {"node": each.node, "parameter": each.parameter, "runs_anyway": each.runs_anyway}
        for each in node.upstreams
    ]
    task = task_json(node.task)
    return {"task": task, "name": node.name, "upstreams": upstreams, "approval": node.approval}


def error_json(code: str, reason: str, message: str, metadata: dict[str, str]) -> dict[str, Any]:
    """A failed call."""
    return {"code": code, "reason": reason, "message": message, "metadata": metadata}


def result_json(result: pb.SubmitResult) -> dict[str, Any]:
    """What became of one submitted task."""
    error = None
    if result.HasField("error"):
        told = result.error
        code = next(code.name for code in grpc.StatusCode if code.value[0] == told.code)
        error = error_json(code, told.reason, told.message, dict(told.metadata))
    outcome = pb.SubmitOutcome.Name(result.outcome).removeprefix("SUBMIT_OUTCOME_")
    return {"task_id": result.task_id, "outcome": outcome, "error": error}


def outcome_json(enum: Any, prefix: str, result: Any) -> dict[str, str]:
    """What a cancel or a retry did."""
    return {"task_id": result.task_id, "outcome": enum.Name(result.outcome).removeprefix(prefix)}


def schedule_json(schedule: schedules.Schedule) -> dict[str, Any]:
    """A schedule, without its times."""
    definition = schedule.definition
    return {
        "name": definition.name,
        "cron": definition.cron,
        "timezone": definition.timezone,
        "task": {"name": definition.task.name, "queue": definition.task.queue},
        "paused": schedule.paused,
    }


def state_json(state: Any) -> dict[str, Any]:
    """What the SDK's watch tells of a task, as T of AGENT.md."""
    return {
        "task_id": state.task_id,
        "name": state.name,
        "queue": state.queue,
        "status": state.status.upper(),
        "payload": None,
        "cancel_requested": state.cancel_requested,
        "runs": [
            {
                "run_number": run.run_number,
                "attempt_number": run.attempt_number,
                "status": run.status.upper(),
                "result": json.loads(run.result) if run.result else None,
                "error": run.error
                and {"type": run.error.type, "message": run.error.message, "traceback": run.error.traceback},
                "reason": run.reason,
                "worker": run.worker,
            }
            for run in state.runs
        ],
    }
