"""What is sent of a workflow, and what becomes of it when brokers do not answer, refuse, or are in cells."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from hyrex import (
    BrokerUnavailable,
    HyrexRegistry,
    PayloadTooLarge,
    QueueFull,
    SendRejected,
    SubmitUnknown,
    TaskNotFound,
)
from hyrex.backend.outgoing import Progress
from hyrex.client.direct import DirectBackend
from hyrex.config import read_settings
from hyrex.v1 import task_pb2, task_service_pb2
from tests.support.scripted_tasks import Answer, ScriptedTasks, Server, refuse, rejected, stored
from tests.unit.sdk.sent_tasks import unavailable
from tests.unit.sdk.test_sending_to_cells import Pair, pair
from tests.unit.sdk.workflow_tasks import Order, diamond_of_tasks, fulfil, one, sum_of_squares, two

__all__ = ["pair"]
ORDER = Order(number=7, items=["lamp"])


def nodes(request: Any) -> list[tuple[str, str, bytes, list[tuple[int, str, bool]]]]:
    return [
        (
            each.name,
            each.task.name,
            each.task.payload,
            [(upstream.node, upstream.parameter, upstream.runs_anyway) for upstream in each.upstreams],
        )
        for each in request.nodes
    ]


def test_a_workflow_is_one_call_with_its_nodes_in_order(server: Server, tasks: ScriptedTasks) -> None:
    handle = fulfil.with_config(fail_fast=True, delay=3, labels={"a": "b"}).send(ORDER)
    (request,) = tasks.workflows
    root = request.root
    assert (root.task_id, root.name, root.payload) == (
        str(handle.id),
        "fulfil",
        b'{"order":{"number":7,"items":["lamp"]}}',
    )
    assert (dict(root.headers), dict(root.labels)) == ({"hyrex-result": '"ship"'}, {"a": "b"})
    assert (root.delay.seconds, root.max_retries, request.fail_fast, request.trace_context) == (
        3,
        0,
        True,
        b"",
    )
    assert nodes(request) == [
        ("charge", "charge", b'{"order":{"number":7,"items":["lamp"]}}', []),
        ("weigh", "weigh", b'{"item":"lamp"}', []),
        ("ship", "ship", b"{}", [(0, "receipt", False), (1, "weights[]", False)]),
        ("tell", "tell", b'{"number":7}', [(2, "parcel", True)]),
    ]
    assert [str(node.id) for node in handle.nodes.values()] == [each.task.task_id for each in request.nodes]
    assert (handle.status, {each.task.root_id for each in request.nodes}) == ("blocked", {""})


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_had_no_answer_is_sent_again_under_the_same_ids(
    server: Server, tasks: ScriptedTasks, is_async: bool
) -> None:
    tasks.failures = [unavailable]
    asyncio.run(sum_of_squares.send_async([1])) if is_async else sum_of_squares.send([1])
    first, second = tasks.workflows
    assert first == second


def test_a_broker_that_failed_leaves_it_open_and_resend_settles_it(
    server: Server, tasks: ScriptedTasks
) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.INTERNAL, "INTERNAL")]
    with pytest.raises(SubmitUnknown, match=r"scripted\. sum_of_squares .* may be stored or not") as caught:
        sum_of_squares.send([1])
    caught.value.handle.resend()
    first, second = tasks.workflows
    assert first == second
    assert caught.value.handle.status == "blocked"


def test_ids_that_a_broker_finds_untimely_are_all_replaced(server: Server, tasks: ScriptedTasks) -> None:
    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        if len(tasks.workflows) > 1:
            return stored(task)
        now_ms = str(time.time_ns() // 1_000_000)
        return rejected("TASK_ID_OUT_OF_WINDOW", server_time_ms=now_ms)(task)

    tasks.answer = answer
    handle = sum_of_squares.send([1, 2])
    ids = [{each.root.task_id, *(node.task.task_id for node in each.nodes)} for each in tasks.workflows]
    assert (len(ids[0]), len(ids[1]), ids[0] & ids[1]) == (4, 4, set())
    assert {str(handle.id), *(str(node.id) for node in handle.nodes.values())} == ids[1]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_refusal_is_told_with_its_reason(server: Server, tasks: ScriptedTasks, is_async: bool) -> None:
    def sent() -> object:
        return asyncio.run(sum_of_squares.send_async([1])) if is_async else sum_of_squares.send([1])

    tasks.answer = rejected("INVALID_FIELD", "node 'square': name = ''", node="square")
    with pytest.raises(SendRejected, match="refused sum_of_squares: node 'square'") as caught:
        sent()
    assert caught.value.metadata["node"] == "square"
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")]
    with pytest.raises(SendRejected, match="the broker refused the workflow: scripted") as caught:
        sent()
    assert caught.value.reason == "INVALID_FIELD"
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNIMPLEMENTED)]
    with pytest.raises(SendRejected) as caught:
        sent()
    assert caught.value.reason == "UNIMPLEMENTED"


def full_until_attempt(number: int, tasks: ScriptedTasks) -> Answer:
    """There is room at this attempt alone."""

    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        if len(tasks.workflows) == number:
            return stored(task)
        result = rejected("QUOTA_EXCEEDED", queue="default", limit="1")(task)
        result.error.retry_delay.FromMilliseconds(1)
        return result

    return answer


def test_a_full_queue_is_waited_for_as_long_as_the_send_may_last(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.answer = full_until_attempt(2, tasks)
    sum_of_squares.send([1])
    assert len(tasks.workflows) == 2
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "3")
    with pytest.raises(QueueFull):
        sum_of_squares.send([1])
    assert len({each.root.task_id for each in tasks.workflows[2:]}) == 1


def test_without_a_broker_nothing_is_stored(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    server.stop()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.3")
    with pytest.raises(BrokerUnavailable):
        sum_of_squares.send([1])


def test_a_caller_that_may_not_wait_for_the_clients_thread_stores_it_too(
    server: Server, tasks: ScriptedTasks
) -> None:
    handle = sum_of_squares.send([1])
    direct = DirectBackend(read_settings())
    assert direct.store_workflow(handle._as_sent()) is Progress.STORED
    assert tasks.workflows[0] == tasks.workflows[1]
    assert [node.name for node in direct.get_workflow(str(handle.id)).nodes] == ["square", "total"]
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")]
    assert isinstance(direct.store_workflow(handle._as_sent()), SendRejected)


def test_such_a_caller_waits_for_room_in_a_full_queue_too(server: Server, tasks: ScriptedTasks) -> None:
    handle = sum_of_squares.send([1])
    tasks.answer = full_until_attempt(3, tasks)
    assert DirectBackend(read_settings()).store_workflow(handle._as_sent()) is Progress.STORED
    assert tasks.workflows[1:] == [tasks.workflows[0]] * 2


def test_a_workflow_is_stored_in_one_cell_and_found_there(pair: Pair) -> None:
    handle = diamond_of_tasks.send()
    assert [len(pair.video.workflows), len(pair.rest.workflows)] == [0, 1]
    assert set(asyncio.run(_refreshed(handle)).nodes) == {"one", "two", "three", "total"}
    assert diamond_of_tasks.handle(handle.id)._id == str(handle.id)
    with pytest.raises(TaskNotFound):
        diamond_of_tasks.handle("01900000-0000-7000-8000-000000000000").refresh()


async def _refreshed(handle: Any) -> Any:
    await handle.refresh_async()
    return handle


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_nodes_of_another_cell_are_refused_by_name(pair: Pair, is_async: bool) -> None:
    hy = HyrexRegistry()

    @hy.workflow
    def flow() -> None:
        one >> two.with_config(queue="video-hd")

    with pytest.raises(SendRejected, match="its node two in queue 'video-hd' of another cell") as caught:
        asyncio.run(flow.send_async()) if is_async else flow.send()
    assert caught.value.reason == "SPANS_CELLS"
    assert not pair.video.workflows
    assert not pair.rest.workflows


def test_arguments_that_every_node_would_be_given_are_small(server: Server) -> None:
    @HyrexRegistry().workflow
    def flow(text: str) -> None:
        one.node()

    flow.send("a" * 65_000)
    with pytest.raises(PayloadTooLarge, match=r"arguments of flow take 65,547 bytes, the limit is 65,536"):
        flow.send("a" * 65_536)
