"""What a token may do with workflows: a right is checked where its effect lands (rule 39)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1.task_service_pb2 import SUBMIT_OUTCOME_REJECTED, SUBMIT_OUTCOME_STORED, TaskFilter
from hyrex.v1.workflow_service_pb2 import GetWorkflowRequest
from hyrex_broker.domain.model import CancelOutcome, Outcome, TaskId
from hyrex_broker.domain.rights import ANYONE, Caller, Scope
from hyrex_broker.service.callers import set_caller
from hyrex_broker.service.entry import Continuation, Handler
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.task_rights import TaskRights
from hyrex_broker.storage import reads as reading
from hyrex_broker.storage.reads import TaskReads
from tests.integration.engine.bench import Bench
from tests.integration.engine.test_workflow_service import served
from tests.integration.engine.workflow_runs import begun, sent, store
from tests.integration.service.stubs import reason_of

TEAM = Caller("team", frozenset(Scope), ("team", "team-*"))


class OneCaller(grpc.aio.ServerInterceptor):
    """A door by which each call comes in as one caller."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        return await continuation(handler_call_details)

    async def admit(self, scopes: frozenset[Scope], context: Context) -> None:
        set_caller(TEAM)

    @asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        yield


async def test_a_workflow_needs_the_right_to_the_queue_of_its_root_and_of_each_node(bench: Bench) -> None:
    own, foreign_node, foreign_root = (sent({"a": [], "b": ["a"]}, queue="team") for _ in range(3))
    own.nodes[1].task.queue = "team-2"
    foreign_node.nodes[1].task.queue = "others"
    foreign_root.root.queue = "others"
    async with served(bench, OneCaller()) as stub:
        assert (await stub.SubmitWorkflow(own)).root.outcome == SUBMIT_OUTCOME_STORED
        for request, node in ((foreign_node, "b"), (foreign_root, "")):
            answer = (await stub.SubmitWorkflow(request)).root
            assert answer.outcome == SUBMIT_OUTCOME_REJECTED
            assert (answer.error.reason, answer.error.metadata["queue"]) == ("RIGHT_MISSING", "others")
            assert answer.error.metadata.get("node", "") == node
    (count,) = await bench.database.fetch("select count(*) as tasks from task")
    assert count["tasks"] == 3


async def test_nodes_of_queues_that_a_token_may_not_see_are_shown_without_their_task(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"]}, queue="team")
    request.nodes[1].task.queue = "others"
    async with served(bench) as stub:
        await stub.SubmitWorkflow(request)
    async with served(bench, OneCaller()) as stub:
        shown = await stub.GetWorkflow(GetWorkflowRequest(task_id=request.root.task_id))
        assert [(each.name, each.HasField("task")) for each in shown.nodes] == [("a", True), ("b", False)]
        by_node = GetWorkflowRequest(task_id=request.nodes[1].task.task_id)
        assert await reason_of(stub.GetWorkflow(by_node)) == "TASK_NOT_FOUND"


async def test_a_cancel_of_a_root_needs_the_right_to_the_queues_of_its_nodes(bench: Bench) -> None:
    own, foreign = sent({"a": [], "b": ["a"]}, queue="team"), sent({"a": [], "b": ["a"]}, queue="team")
    foreign.nodes[1].task.queue = "others"
    for request in (own, foreign):
        await store(bench, request)
    rights = TaskRights(TaskReads(bench.database), bench.engine.audit)
    roots = [TaskId(request.root.task_id) for request in (own, foreign)]

    async def cancel(task_ids: Sequence[TaskId]) -> list[CancelOutcome]:
        return await bench.engine.cancels.cancel(task_ids, "enough")

    set_caller(TEAM)
    try:
        outcomes = await rights.changed(roots, cancel, CancelOutcome.NOT_FOUND)
    finally:
        set_caller(ANYONE)
    assert outcomes == [CancelOutcome.REQUESTED, CancelOutcome.NOT_FOUND]
    living = await bench.database.fetch("select from live where task_id = $1", foreign.nodes[1].task.task_id)
    assert len(living) == 1


async def acted(bench: Bench, action: admin.BulkAction.ValueType) -> admin.BulkOperation:
    """What a bulk operation of the team on runs of workflows has done."""
    bulk = bench.engine.steering.parts.bulk
    wanted = admin.StartBulkOperationRequest(action=action, filter=TaskFilter(names=["flow"]))
    operation = (await bulk.start(wanted, TEAM)).operation
    async with asyncio.timeout(60):
        while operation.state == admin.BULK_STATE_RUNNING:
            await asyncio.sleep(0.01)
            request = admin.GetBulkOperationRequest(operation_id=operation.operation_id)
            operation = (await bulk.get(request, TEAM)).operation
    return operation


async def test_a_bulk_operation_on_roots_needs_the_right_to_the_queues_of_their_nodes(bench: Bench) -> None:
    own, foreign = sent({"a": [], "b": ["a"]}, queue="team"), sent({"a": [], "b": ["a"]}, queue="team")
    foreign.nodes[1].task.queue = "others"
    stored = [await begun(bench, request, capacity=0) for request in (own, foreign)]
    operation = await acted(bench, admin.BULK_ACTION_CANCEL)
    assert (operation.matched, operation.done) == (1, 1)
    assert await stored[0].ended() == Outcome.CANCELLED
    assert await stored[0].left() == []
    assert await stored[1].left() == ["", "a", "b"]

    await bench.engine.cancels.cancel([stored[1].ids["a"]], "enough")
    assert await stored[1].ended() == Outcome.FAILED
    failed = await begun(bench, sent({"a": [], "b": ["a"]}, queue="team"), capacity=0)
    await bench.engine.cancels.cancel([failed.ids["a"]], "enough")
    assert await failed.ended() == Outcome.FAILED
    operation = await acted(bench, admin.BULK_ACTION_RETRY)
    assert (operation.matched, operation.done) == (1, 1)
    assert await failed.left() == ["", "a", "b"]
    assert await stored[1].left() == []


async def test_the_queues_below_many_roots_are_read_a_few_roots_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may have 1,000 nodes: those of 190 in one statement ran into its timeout."""
    monkeypatch.setattr(reading, "ROOTS_PER_STATEMENT", 2)
    roots = [sent({"a": [], "b": ["a"]}, queue=f"team-{number}") for number in range(5)]
    async with served(bench, OneCaller()) as stub:
        for each in roots:
            assert (await stub.SubmitWorkflow(each)).root.outcome == SUBMIT_OUTCOME_STORED
    asked: list[int] = []
    fetch = bench.database.fetch

    async def noted(sql: str, *args: Any, **options: Any) -> Any:
        asked.append(len(args[0]))
        return await fetch(sql, *args, **options)

    monkeypatch.setattr(bench.database, "fetch", noted)
    ids = [TaskId(each.root.task_id) for each in roots]
    found = await TaskReads(bench.database).queues_below(ids)
    assert found == {each: [f"team-{number}"] for number, each in enumerate(ids)}
    assert asked == [2, 2, 1]
