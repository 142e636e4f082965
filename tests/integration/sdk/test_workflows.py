"""Workflows with a real broker and a real worker: sent whole, run in order, read, cancelled and retried."""

from pathlib import Path

import pytest

from hyrex import NotWaiting, TaskFailed, TaskHandle, TaskWasCancelled, get_task
from hyrex.testing.live import LiveHyrex
from tests.integration.sdk.workflow_app import coded_flow, fan_out, here, late, refunded
from tests.support.eventually import eventually
from tests.unit.sdk.workflow_tasks import Order, diamond_of_tasks, fulfil, sum_of_squares

WITHIN_S = 120.0


@pytest.fixture
def served(hyrex_live: LiveHyrex) -> LiveHyrex:
    hyrex_live.start_worker("tests.integration.sdk.workflow_app:app", "-p", "1")
    return hyrex_live


async def test_results_go_from_node_to_node_through_a_broker(served: LiveHyrex) -> None:
    handle = await fulfil.send_async(Order(number=7, items=["lamp", "table"]))
    assert await handle.result_async(WITHIN_S) == "9 kg, receipt 7"
    found = fulfil.handle(handle.id)
    await found.refresh_async()
    assert {name: str(node.status) for name, node in found.nodes.items()} == dict.fromkeys(
        ["charge", "weigh", "weigh-2", "ship", "tell"], "completed"
    )
    assert await found.result_async(WITHIN_S) == "9 kg, receipt 7"
    assert await found.nodes["tell"].result_async(WITHIN_S) == "7: 9 kg, receipt 7"
    assert await (await diamond_of_tasks.send_async()).result_async(WITHIN_S) == {"total": 0}
    assert await (await fan_out.send_async(200)).result_async(WITHIN_S) == sum(n * n for n in range(200))


def test_a_run_knows_its_workflow(served: LiveHyrex) -> None:
    handle = here.send(["a", "b"])
    root = str(handle.id)
    told = [root, "here", "the one", {"words": ["a", "b"]}, root, root]
    assert handle.result(WITHIN_S) == told


def test_what_failed_is_skipped_told_and_run_again(served: LiveHyrex, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    handle = late.send(str(marker))
    assert not handle.wait(WITHIN_S)
    with pytest.raises(TaskFailed, match="once"):
        handle.result()
    handle.refresh()
    assert {name: str(node.status) for name, node in handle.nodes.items()} == {
        "once": "failed",
        "second": "cancelled",
        "tell": "cancelled",
        "anyway": "completed",
    }
    assert handle.nodes["anyway"].result(WITHIN_S) == "4: no parcel"
    for name, task, kind in (("once", "once", TaskFailed), ("second", "tell", TaskWasCancelled)):
        node = handle.nodes[name]
        with pytest.raises(kind, match=f"^{task} {node.id} \\(node '{name}'\\)"):
            node.result()
    skipped = get_task(handle.nodes["tell"].id)
    assert [run.cause for run in skipped.task_runs] == ["skipped"]
    marker.touch()
    assert handle.retry_failed()
    assert handle.result(WITHIN_S) == ["3: no parcel", "4: no parcel"]
    assert not handle.retry_failed()
    anyway = get_task(handle.nodes["anyway"].id)
    assert len(anyway.task_runs) == 1


def test_a_cancel_ends_all_that_has_not_ended(hyrex_live: LiveHyrex) -> None:
    handle = sum_of_squares.with_config(idempotency_key="cancelled").send([1, 2])
    again = sum_of_squares.with_config(idempotency_key="cancelled").send([1, 2])
    assert (again.id, again.deduplicated) == (handle.id, True)
    assert handle.cancel("not needed")
    with pytest.raises(TaskWasCancelled):
        handle.result(WITHIN_S)
    handle.refresh()
    assert {str(node.status) for node in handle.nodes.values()} == {"cancelled"}
    handle.resend()
    assert handle.status == "cancelled"


def test_codecs_encode_what_goes_from_node_to_node(hyrex_live: LiveHyrex) -> None:
    hyrex_live.start_worker("tests.integration.sdk.workflow_app:coded_app", "-p", "1")
    handle = coded_flow.send("word")
    assert handle.result(WITHIN_S) == "wordword-wordwordword"
    assert coded_flow.handle(handle.id).result(WITHIN_S) == "wordword-wordwordword"


def test_an_approval_holds_a_workflow_until_somebody_answers(served: LiveHyrex) -> None:
    handle = refunded.send(7)
    assert handle.nodes["square"].result(WITHIN_S) == 1
    approval = handle.nodes["approve"]
    eventually(lambda: _completed(approval), WITHIN_S)
    assert handle.result(WITHIN_S) == "7 refunded"


def _completed(approval: TaskHandle[bool]) -> bool:
    """Whether it is its turn: before, it waits for its upstreams."""
    try:
        return approval.complete(True, reason="ada")
    except NotWaiting:
        return False
