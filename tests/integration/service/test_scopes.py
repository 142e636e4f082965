"""The scope that each RPC needs: who lacks it is refused, over a real channel."""

from typing import Any

import pytest
from google.protobuf.descriptor_pool import Default

from hyrex.v1 import admin_service_pb2 as admin_wire
from hyrex.v1 import queue_service_pb2, schedule_service_pb2, task_service_pb2, workflow_service_pb2
from hyrex_broker.service.scopes import SCOPES
from hyrex_broker.service.server import SERVICES
from tests.integration.service.stubs import ROOT, Stubs, outcome_of
from tests.support.tokens import made

WIRE = (task_service_pb2, queue_service_pb2, admin_wire, schedule_service_pb2, workflow_service_pb2)


def test_every_rpc_says_which_scope_it_needs() -> None:
    """An RPC without one would be served to nobody."""
    methods = {
        f"/{name}/{method.name}" for name in SERVICES for method in Default().FindServiceByName(name).methods
    }
    assert methods == set(SCOPES)


async def test_who_lacks_the_scope_of_an_rpc_is_refused_whatever_it_asks(guarded: Stubs) -> None:
    nothing = await made(guarded.admin, ROOT, "payload-only", "payload")
    calls = {
        f"/hyrex.v1.{service}/{method}": getattr(stub, method)
        for service, stub in (
            ("TaskService", guarded.tasks),
            ("QueueService", guarded.queues),
            ("AdminService", guarded.admin),
            ("ScheduleService", guarded.schedules),
            ("WorkflowService", guarded.workflows),
        )
        for method in dir(stub)
        if f"/hyrex.v1.{service}/{method}" in SCOPES
    }
    assert len(calls) == len(SCOPES) - 2  # without those of workers
    calls.pop("/hyrex.v1.AdminService/GetCaller")
    for method, call in calls.items():
        name = method.rpartition("/")[2]
        kind = next(getattr(module, f"{name}Request") for module in WIRE if hasattr(module, f"{name}Request"))
        if name == "StreamSubmit":
            stream = call(metadata=nothing)
            answer = stream.read()
        elif name in ("WatchTasks", "WatchCluster"):
            answer = call(kind(), metadata=nothing).read()
        else:
            answer = call(kind(), metadata=nothing)
        assert await outcome_of(answer) == "RIGHT_MISSING", method


@pytest.mark.parametrize("scope", ["submit", "work", "read", "admin"])
async def test_a_scope_gives_its_rpcs_and_no_others(guarded: Stubs, scope: str) -> None:
    own = await made(guarded.admin, ROOT, "own", scope)
    calls: dict[str, Any] = {
        "submit": lambda: guarded.tasks.CancelTasks(task_service_pb2.CancelTasksRequest(), metadata=own),
        "read": lambda: guarded.queues.ListQueues(queue_service_pb2.ListQueuesRequest(), metadata=own),
        "admin": lambda: guarded.admin.ListTokens(admin_wire.ListTokensRequest(), metadata=own),
    }
    for name, call in calls.items():
        assert await outcome_of(call()) == ("" if name == scope else "RIGHT_MISSING")
