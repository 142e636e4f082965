"""Workflows in place of which a node waits for somebody's word."""

from typing import Any

import pytest

from hyrex import (
    HyrexRegistry,
    WorkflowInvalid,
)
from hyrex.testing import inline
from tests.unit.sdk.workflow_tasks import (
    square,
)


def refunds() -> tuple[HyrexRegistry, Any]:
    hy = HyrexRegistry()

    @hy.approval
    def approve(amount: int) -> bool:
        raise NotImplementedError

    @hy.task
    def refund(amount: int, approved: bool = False) -> str:
        return f"{amount} refunded" if approved else "refused"

    @hy.workflow
    def flow(amount: int, anyway: bool) -> str:
        answer = approve.node(amount).after(square.node(1))
        last = refund.node(amount, answer.result)
        return (last.runs_anyway() if anyway else last).result

    return hy, flow


@pytest.mark.parametrize(("answer", "expected"), [(True, "7 refunded"), (False, "refused")])
def test_an_approval_holds_what_waits_for_it_until_somebody_answers(answer: bool, expected: str) -> None:
    _, flow = refunds()
    with inline() as tasks:
        handle = flow.send(7, False)
        assert (handle.status, handle.nodes["approve"].is_final) == ("blocked", False)
        with pytest.raises(
            TimeoutError, match=rf"is blocked after .*; hyrex task why {handle.id} says what it waits for"
        ):
            handle.result(timeout=0)
        with pytest.raises(TimeoutError, match=r"waits for somebody to complete\(\) its approve"):
            handle.result()
        assert [call.name for call in tasks.calls] == ["flow", "square", "approve"]
        assert handle.nodes["approve"].complete(answer)
        assert not handle.nodes["approve"].complete(answer)
        assert handle.result() == expected


async def test_an_approval_that_is_refused_or_cancelled_ends_badly() -> None:
    _, flow = refunds()
    with inline(raise_failures=False):
        handle = await flow.send_async(7, False)
        assert await handle.nodes["approve"].complete_async(error="the customer is gone")
        assert not await handle.wait_async()
        assert await handle.retry_failed_async()
        assert await handle.nodes["approve"].complete_async(True)
        assert await handle.result_async() == "7 refunded"
        anyway = await flow.send_async(7, True)
        assert await anyway.nodes["approve"].cancel_async()
        await anyway.refresh_async()
        assert (anyway.status, await anyway.nodes["refund"].result_async()) == ("failed", "refused")
        given_up = await flow.send_async(7, True)
        assert await given_up.cancel_async()
        assert not await given_up.cancel_async()
        await given_up.refresh_async()
        assert {str(each.status) for each in given_up.nodes.values()} == {"completed", "cancelled"}


def test_an_approval_that_fail_fast_has_cancelled_takes_no_answer_any_more() -> None:
    hy, _ = refunds()
    sign = hy.approval("sign")

    @hy.workflow
    def both() -> None:
        sign.node("?")
        square.node(-1)

    with inline(raise_failures=False):
        handle = both.with_config(fail_fast=True).send()
        assert not handle.wait()
        assert not handle.nodes["sign"].complete(True)
        handle.refresh()
        assert {str(each.status) for each in handle.nodes.values()} == {"cancelled", "failed"}


def test_a_node_that_waits_for_others_is_asked_for_and_cancelled_as_any_task() -> None:
    _, flow = refunds()
    with inline():
        handle = flow.send(7, True)
        waits = handle.nodes["refund"]
        waits.refresh()
        assert waits.status == "blocked"
        assert waits.cancel()
        assert handle.nodes["approve"].complete(True)
        handle.refresh()
        assert [str(each.status) for each in handle.nodes.values()] == ["completed", "completed", "cancelled"]


def test_an_approval_is_given_values_and_no_results() -> None:
    hy, _ = refunds()
    approve = hy.approval("sign")

    def flow() -> None:
        approve.node(square.node(1).result)

    with pytest.raises(WorkflowInvalid, match="is an approval, which no worker runs"):
        HyrexRegistry().workflow(flow)
