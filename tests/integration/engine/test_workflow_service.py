"""WorkflowService over a real channel, on a whole engine: what is refused, and how a workflow is shown."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from hyrex.v1 import (
    admin_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_pb2,
    task_service_pb2_grpc,
    worker_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from hyrex.v1.task_service_pb2 import SUBMIT_OUTCOME_REJECTED, SUBMIT_OUTCOME_STORED
from hyrex.v1.workflow_service_pb2 import GetWorkflowRequest, SubmitWorkflowRequest
from hyrex_broker.config import BrokerConfig
from hyrex_broker.domain.features import Feature
from hyrex_broker.domain.model import Outcome
from hyrex_broker.service.listening import Servicers, listen
from hyrex_broker.service.submit import SubmitChecker
from hyrex_broker.service.workflows import WorkflowParts, WorkflowServicer
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.bench import Bench
from tests.integration.engine.workflow_runs import LIMIT, begun, sent
from tests.integration.service.stubs import reason_of
from tests.integration.storage.stage import make_id, new_task


@asynccontextmanager
async def served(bench: Bench, door: Any = None) -> AsyncIterator[Any]:
    """A stub of WorkflowService."""
    engine, reads = bench.engine, TaskReads(bench.database)
    submits = SubmitChecker(engine.intake, LIMIT, bench.database.availability, reads)
    submits.gate = engine.presence.gate
    parts = WorkflowParts(engine.workflows, submits, WorkflowStore(bench.database), reads, engine.audit)
    others: Any = (
        task_service_pb2_grpc.TaskServiceServicer,
        worker_service_pb2_grpc.WorkerServiceServicer,
        queue_service_pb2_grpc.QueueServiceServicer,
        admin_service_pb2_grpc.AdminServiceServicer,
        schedule_service_pb2_grpc.ScheduleServiceServicer,
    )
    tasks, workers, queues, admin, schedules = (each() for each in others)
    servicers = Servicers(tasks, workers, queues, admin, schedules, WorkflowServicer(parts))
    built = listen(BrokerConfig(database_url=bench.database.url, port=0), servicers, door)
    await built.server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{built.port}") as channel:
            yield workflow_service_pb2_grpc.WorkflowServiceStub(channel)
    finally:
        await built.server.stop(None)


def _before_itself(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].upstreams.add(node=1)


def _foreign(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].upstreams.add(node=-1)


def _first_waits(request: SubmitWorkflowRequest) -> None:
    request.nodes[0].upstreams.add(node=0)


def _bound_twice(request: SubmitWorkflowRequest) -> None:
    for _ in range(2):
        request.nodes[1].upstreams.add(node=0, parameter="x")


def _same_name(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].name = "a"


def _without_name(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].name = ""


def _same_id(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].task.task_id = request.root.task_id


def _empty(request: SubmitWorkflowRequest) -> None:
    del request.nodes[:]


def _retried_root(request: SubmitWorkflowRequest) -> None:
    request.root.max_retries = 1


def _parented(request: SubmitWorkflowRequest) -> None:
    request.nodes[0].task.parent_id = make_id()


def _refusing(request: SubmitWorkflowRequest) -> None:
    request.nodes[0].task.on_full = task_pb2.ON_FULL_REFUSE


def _delayed_approval(request: SubmitWorkflowRequest) -> None:
    request.nodes[0].approval = True
    request.nodes[0].task.delay.seconds = 1


def _bound_and_listed(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].upstreams.add(node=0, parameter="x")
    request.nodes[1].upstreams.add(node=0, parameter="x[]")


def _list_without_name(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].upstreams.add(node=0, parameter="[]")


def _unknown(request: SubmitWorkflowRequest) -> None:
    request.nodes[0].MergeFromString(b"\x98\x06\x01")  # field 99


def _unknown_of_all(request: SubmitWorkflowRequest) -> None:
    request.MergeFromString(b"\x98\x06\x01")


def _unknown_of_an_edge(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].upstreams.add(node=0).MergeFromString(b"\x98\x06\x01")


def _too_many_edges(request: SubmitWorkflowRequest) -> None:
    request.nodes[1].upstreams.extend([request.nodes[1].upstreams.add(node=0)] * 20_000)


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (_before_itself, "nodes[1].upstreams[0].node = 1: "),
        (_foreign, "nodes[1].upstreams[0].node = -1: "),
        (_first_waits, "nodes[0].upstreams[0].node = 0: "),
        (_bound_twice, "nodes[1].upstreams[1].parameter = 'x': "),
        (_bound_and_listed, "nodes[1].upstreams[1].parameter = 'x[]': "),
        (_list_without_name, "nodes[1].upstreams[0].parameter = '[]': "),
        (_same_name, "nodes.name = 'a': "),
        (_without_name, "nodes[1].name = '': "),
        (_same_id, "nodes[1].task.task_id = "),
        (_empty, "nodes = 0: "),
        (_retried_root, "root.max_retries = '1': "),
        (_parented, "nodes[0].task.parent_id = "),
        (_refusing, "nodes[0].task.on_full = "),
        (_delayed_approval, "nodes[0].task.delay = 'seconds: 1': "),
        (_unknown, "nodes[0] = 'field 99': "),
        (_unknown_of_all, "workflow = 'field 99': "),
        (_unknown_of_an_edge, "nodes[1].upstreams[0] = 'field 99': "),
        (_too_many_edges, "nodes.upstreams = 20001: "),
    ],
)
async def test_what_is_no_workflow_is_refused_by_its_field(
    bench: Bench, spoil: Callable[[SubmitWorkflowRequest], None], field: str
) -> None:
    request = sent({"a": [], "b": []})
    spoil(request)
    async with served(bench) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SubmitWorkflow(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.value.details() or "").startswith(field)


async def test_more_than_a_thousand_nodes_are_refused(bench: Bench) -> None:
    request = sent({f"n{number}": [] for number in range(1001)})
    async with served(bench) as stub:
        assert await reason_of(stub.SubmitWorkflow(request)) == "TOO_MANY_ITEMS"


async def test_a_node_that_is_refused_is_named_and_nothing_is_stored(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"]}, b={"priority": 11})
    async with served(bench) as stub:
        answer = (await stub.SubmitWorkflow(request)).root
    assert answer.outcome == SUBMIT_OUTCOME_REJECTED
    assert (answer.error.reason, answer.error.metadata["node"]) == ("INVALID_FIELD", "b")
    assert answer.error.message.startswith("node 'b': priority = 11: ")
    assert await bench.database.fetch("select from task") == []


async def test_the_id_of_another_task_is_refused_with_its_node(bench: Bench) -> None:
    first, second = sent({"a": []}), sent({"a": [], "b": ["a"]})
    second.nodes[1].task.task_id = first.nodes[0].task.task_id
    async with served(bench) as stub:
        await stub.SubmitWorkflow(first)
        answer = (await stub.SubmitWorkflow(second)).root
    assert (answer.error.reason, answer.error.metadata["node"]) == ("TASK_ID_CONFLICT", "b")


async def test_another_graph_under_the_same_root_is_another_workflow(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"]})
    async with served(bench) as stub:
        assert (await stub.SubmitWorkflow(request)).root.outcome == SUBMIT_OUTCOME_STORED
        request.nodes[1].upstreams[0].runs_anyway = True
        assert (await stub.SubmitWorkflow(request)).root.error.reason == "TASK_ID_CONFLICT"


async def test_workflows_are_refused_while_a_broker_does_not_know_them(bench: Bench) -> None:
    knows = [str(each) for each in Feature if each is not Feature.WORKFLOWS]
    await bench.database.fetch(
        "insert into broker (name, address, version, features) values ('old', '127.0.0.1:2', '0.9', $1)",
        knows,
    )
    async with served(bench) as stub:
        await bench.engine.presence.look_for_older()
        assert await reason_of(stub.SubmitWorkflow(sent({"a": []}))) == "FEATURE_NOT_READY"


async def test_a_workflow_is_shown_by_its_root_and_by_each_of_its_nodes(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a=x!"]}, fail_fast=True))
    await runs.step(Outcome.COMPLETED)
    async with served(bench) as stub:
        asked = [GetWorkflowRequest(task_id=each) for each in (runs.root, runs.ids["b"])]
        shown = [await stub.GetWorkflow(each) for each in asked]
    assert shown[0].root == shown[1].root
    first = shown[0]
    assert (first.root.task_id, first.root.status, first.root.workflow_nodes, first.fail_fast) == (
        runs.root, task_pb2.TASK_STATUS_BLOCKED, 2, True,
    )  # fmt: skip
    assert [(each.name, each.task.task_id, each.task.node) for each in first.nodes] == [
        (name, task_id, name) for name, task_id in runs.ids.items()
    ]
    (edge,) = first.nodes[1].upstreams
    assert (edge.node, edge.parameter, edge.runs_anyway) == (0, "x", True)


async def test_what_is_no_workflow_is_not_shown_as_one(bench: Bench) -> None:
    plain = new_task()
    await bench.submit([plain])
    refused = make_id()
    await bench.database.fetch(
        "insert into outbox (id, task, queue, payload, options, held, reason, held_at)"
        " values ($1, 'work', 'default', '{}', '{\"later\": 1}', 'refused', 'not known', now())",
        refused,
    )
    async with served(bench) as stub:
        for task_id, code, words in (
            (plain.task_id, "NOT_FOUND", f"task {plain.task_id} is neither a workflow nor a node of one"),
            (refused, "FAILED_PRECONDITION", f"`hyrex outbox retry {refused}`"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await stub.GetWorkflow(GetWorkflowRequest(task_id=task_id))
            assert told.value.code().name == code
            assert words in (told.value.details() or "")
        assert await reason_of(stub.GetWorkflow(GetWorkflowRequest(task_id=make_id()))) == "TASK_NOT_FOUND"


@pytest.mark.parametrize(
    "edges", [["a", "b"], ["b", "a"], ["b", "a!"], ["a", "a!"], ["b=x", "a", "b=y"]], ids=str
)
async def test_edges_are_shown_as_they_were_sent(bench: Bench, edges: list[str]) -> None:
    request = sent({"a": [], "b": [], "c": edges})
    await begun(bench, request)
    async with served(bench) as stub:
        shown = await stub.GetWorkflow(GetWorkflowRequest(task_id=request.root.task_id))
    assert shown.nodes[2].upstreams == request.nodes[2].upstreams
