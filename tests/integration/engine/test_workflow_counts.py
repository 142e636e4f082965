"""How far a workflow is: GetWorkflow's counts, with its nodes and without."""

from datetime import timedelta
from typing import Any

import pytest

from hyrex.v1 import task_pb2 as task
from hyrex.v1 import workflow_service_pb2 as wire
from hyrex_broker.domain.model import Outcome, TaskId
from tests.integration.engine.bench import Bench
from tests.integration.engine.test_workflow_rights import OneCaller
from tests.integration.engine.test_workflow_service import served
from tests.integration.engine.workflow_runs import Runs, begun, sent, store
from tests.integration.service.stubs import reason_of


def standings(answer: wire.GetWorkflowResponse) -> list[tuple[int, int, int]]:
    return [(each.status, each.cause, each.count) for each in answer.counts]


async def both(stub: Any, task_id: str) -> tuple[wire.GetWorkflowResponse, wire.GetWorkflowResponse]:
    """A workflow with its nodes, and without."""
    asked = (wire.SHOWN_NODES_UNSPECIFIED, wire.SHOWN_NODES_NONE)
    whole, short = [
        await stub.GetWorkflow(wire.GetWorkflowRequest(task_id=task_id, nodes=nodes)) for nodes in asked
    ]
    return whole, short


async def of_all_kinds(bench: Bench) -> Runs:
    """A workflow whose nodes stand in every way."""
    graph: dict[str, list[str]] = {
        "done": [], "bad": [], "again": [], "runs": [], "after bad": ["bad"], "after that": ["after bad"],
        "late": ["done"], "stopped": ["runs"], "waits": ["runs"], "gone": ["runs"], "asked": [],
    }  # fmt: skip
    request = sent(graph, again={"max_retries": 3})
    again, late, asked = (request.nodes[list(graph).index(each)] for each in ("again", "late", "asked"))
    again.task.retry_delay.FromTimedelta(timedelta(hours=1))
    late.task.delay.FromTimedelta(timedelta(hours=1))
    asked.approval = True
    runs = await begun(bench, request, capacity=4)
    given = dict([await runs.next() for _ in range(4)])
    await runs.end(given["done"])
    for name in ("bad", "again"):
        await runs.end(given[name], Outcome.FAILED)
    await bench.engine.cancels.cancel([runs.ids["stopped"]], "enough")
    await runs.until(lambda: _is_skipped(runs, "after that"))
    await runs.until(lambda: _is_in(runs, "delayed", "late"))
    await bench.database.fetch("delete from task where id = $1", runs.ids["gone"])
    return runs


async def _is_skipped(runs: Runs, name: str) -> bool:
    return (await runs.state(name))[0] != 0


async def _is_in(runs: Runs, place: str, name: str) -> bool:
    sql = "select from live where task_id = $1 and place = $2"
    return bool(await runs.bench.database.fetch(sql, runs.ids[name], place))


async def test_nodes_are_counted_by_where_they_stand(bench: Bench) -> None:
    runs = await of_all_kinds(bench)
    async with served(bench) as stub:
        whole, short = await both(stub, runs.root)
        by_node = (await both(stub, runs.ids["late"]))[1]
    assert standings(whole) == [
        (task.TASK_STATUS_UNSPECIFIED, 0, 1),
        (task.TASK_STATUS_SCHEDULED, 0, 1),
        (task.TASK_STATUS_RETRYING, 0, 1),
        (task.TASK_STATUS_RUNNING, 0, 1),
        (task.TASK_STATUS_COMPLETED, 0, 1),
        (task.TASK_STATUS_FAILED, 0, 1),
        (task.TASK_STATUS_CANCELLED, task.CANCEL_CAUSE_REQUESTED, 1),
        (task.TASK_STATUS_CANCELLED, task.CANCEL_CAUSE_SKIPPED, 2),
        (task.TASK_STATUS_BLOCKED, 0, 2),
    ]
    assert short.counts == whole.counts
    assert (short.root, short.root_id, short.fail_fast) == (whole.root, runs.root, whole.fail_fast)
    assert (len(whole.nodes), len(short.nodes)) == (11, 0)
    assert by_node == short


async def test_a_node_that_runs_again_after_an_end_is_counted_as_living(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": []}), capacity=0)
    await bench.engine.cancels.cancel([runs.ids["a"]], "enough")
    await runs.ended()
    await bench.engine.cancels.retry([runs.root])
    await runs.until(lambda: _is_in(runs, "ready", "a"))
    async with served(bench) as stub:
        whole, short = await both(stub, runs.root)
    assert standings(whole) == standings(short) == [(task.TASK_STATUS_QUEUED, 0, 1)]


async def test_what_a_token_may_not_see_is_counted_and_no_more(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"], "c": []}, queue="team")
    request.root.queue = request.nodes[1].task.queue = "others"
    await store(bench, request)
    async with served(bench, OneCaller()) as stub:
        whole, short = await both(stub, request.nodes[0].task.task_id)
        of_root = wire.GetWorkflowRequest(task_id=request.root.task_id, nodes=wire.SHOWN_NODES_NONE)
        assert await reason_of(stub.GetWorkflow(of_root)) == "TASK_NOT_FOUND"
    assert standings(whole) == [(task.TASK_STATUS_UNSPECIFIED, 0, 1), (task.TASK_STATUS_QUEUED, 0, 2)]
    assert short.counts == whole.counts
    assert (short.HasField("root"), short.root_id) == (False, request.root.task_id)


@pytest.mark.parametrize("nodes", [3, -1])
async def test_a_way_of_showing_nodes_that_there_is_not_is_refused(bench: Bench, nodes: int) -> None:
    request = sent({"a": []})
    await store(bench, request)
    async with served(bench) as stub:
        asked = wire.GetWorkflowRequest(task_id=TaskId(request.root.task_id), nodes=nodes)  # type: ignore[arg-type]
        assert await reason_of(stub.GetWorkflow(asked)) == "INVALID_FIELD"
