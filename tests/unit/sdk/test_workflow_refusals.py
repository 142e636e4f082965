"""What a workflow's body may not make, and where a workflow is not wired."""

from collections.abc import Callable
from typing import Any

import pytest

from hyrex import WorkflowInvalid, send_many
from hyrex.errors import DefinitionError
from hyrex.workflows.node import WorkflowNode
from tests.unit.sdk.workflow_tasks import (
    Order,
    charge,
    fulfil,
    made,
    one,
    ship,
    square,
    sum_of_squares,
    tell,
    three,
    total,
    two,
)


def circle() -> None:
    one >> two >> three >> two


def itself() -> None:
    one >> one


def nothing() -> None:
    return None


def lacking() -> None:
    one >> charge


def lacking_in_a_call() -> None:
    charge.node()  # type: ignore[call-arg]


def unknown_argument() -> None:
    charge.node(Order(number=1, items=[]), gift=True)  # type: ignore[call-arg]


def wrong_type() -> None:
    ship.node(one.node().result, [])  # type: ignore[arg-type]


def wrong_list() -> None:
    ship.node("r", [charge.node(Order(number=1, items=[])).result])  # type: ignore[list-item]


def list_for_a_number() -> None:
    square.node([one.node().result])  # type: ignore[arg-type]


def no_default() -> None:
    square.node(one.node().result).runs_anyway()


def mixed_list() -> None:
    total.node([one.node().result, 3])


def hidden_result() -> None:
    total.node([[one.node().result]])  # type: ignore[list-item]


def looks_into_a_result() -> None:
    if one.node().result > 3:
        two.node()


def formats_a_result() -> None:
    tell.node(1, f"{one.node().result}")


def same_name() -> None:
    one.node().named("a") >> two.node().named("a")


def too_many() -> None:
    for _ in range(1001):
        one.node()


def returns_a_value() -> int:
    one.node()
    return 3


def returns_a_node() -> Any:
    return one.node()


def node_for_its_result() -> None:
    square.node(one.node())  # type: ignore[arg-type]


def nodes_for_their_results() -> None:
    total.node([one.node(), one.node()])  # type: ignore[list-item]


def task_for_its_result() -> None:
    square.node(one)  # type: ignore[arg-type]


def with_a_key() -> None:
    one.with_config(idempotency_key="k").node()


def with_a_debounce_key() -> None:
    one.with_config(debounce_key="k", delay=3).node()


def no_node() -> None:
    one >> [two, print]  # type: ignore[list-item]


def sends() -> None:
    one >> two
    three.send()


def sends_many() -> None:
    one >> two
    send_many([three.call()])


def sends_a_workflow() -> None:
    one >> two
    sum_of_squares.send([1])


REFUSED = [
    (sends, r"three is sent in the body, which only describes the graph.*write three\.node\(\.\.\.\)"),
    (sends_many, r"three is sent in the body.*write three\.node"),
    (sends_a_workflow, r"sum_of_squares is sent in the body.*write sum_of_squares\(\.\.\.\) to have it"),
    (circle, "has a circle: two >> three >> two; take one of these edges away"),
    (itself, "has a circle: one >> one"),
    (nothing, r"has no nodes; its body wires some.* a call, a\(\.\.\.\), runs the function here"),
    (lacking, r"node 'charge' has no argument 'order'; write charge\.node\(order=\.\.\.\)"),
    (lacking_in_a_call, r"charge\(\): missing a required argument: 'order'; write charge\.node"),
    (unknown_argument, r"charge\(\): got an unexpected keyword argument 'gift'"),
    (wrong_type, "node 'ship' wants str for 'receipt', and is given what node 'one' returns, int"),
    (
        wrong_list,
        r"wants list\[float\] for 'weights', and is given a list of what node 'charge' returns, str",
    ),
    (list_for_a_number, "wants int for 'number', and is given a list of what node 'one' returns, int"),
    (
        no_default,
        "runs also when node 'one' ends badly, and then has no argument 'number'; give the parameter a def",
    ),
    (mixed_list, "a list of results and of values"),
    (hidden_result, "is within a list: a result can be an argument or one of a list"),
    (looks_into_a_result, "<the result of node 'one'> is known only when that has run"),
    (formats_a_result, "<the result of node 'one'> is known only when that has run"),
    (same_name, "has two nodes that are named 'a'; give one of them another name"),
    (too_many, "has 1,001 nodes, and at most 1,000 are sent together"),
    (returns_a_value, "returns 3, which is no result of its nodes"),
    (returns_a_node, r"returns node 'one'; return its \.result"),
    (
        node_for_its_result,
        r"square\.node\(\) is given <node one of workflow .*> for 'number', and wants what it returns; give "
        r"the \.result of its \.node",
    ),
    (nodes_for_their_results, r"total\.node\(\) is given <node one of workflow .*> for 'numbers'"),
    (task_for_its_result, r"square\.node\(\) is given <task one .*> for 'number'"),
    (with_a_key, "node 'one' has an idempotency_key, which is for tasks that are sent by themselves"),
    (with_a_debounce_key, "has a debounce_key, .*; give it to a task that sends the workflow"),
    (no_node, "wants tasks and nodes in its list, got <built-in function print>"),
]


@pytest.mark.parametrize(("body", "text"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_run_is_refused_where_it_is_defined(body: Callable[[], Any], text: str) -> None:
    with pytest.raises(WorkflowInvalid, match=text) as refused:
        made(body)
    assert isinstance(refused.value, ValueError | DefinitionError)
    assert str(refused.value).startswith(f"workflow {body.__name__}")


def test_nodes_of_another_workflow_are_refused() -> None:
    kept: list[WorkflowNode[int]] = []

    def first() -> None:
        kept.append(one.node())

    def second() -> None:
        kept[0] >> two

    def third() -> int:
        two.node()
        return kept[0].result

    made(first)
    for body in (second, third):
        with pytest.raises(WorkflowInvalid, match=f"workflow {body.__name__}"):
            made(body)


def test_outside_of_a_body_nothing_is_wired() -> None:
    for wiring in (lambda: one >> two, lambda: [one] >> two, one.node):
        with pytest.raises(WorkflowInvalid, match="outside of a workflow's body; write it in a function"):
            wiring()


def test_a_workflow_that_is_called_elsewhere_says_how_it_is_sent() -> None:
    called = r"sum_of_squares\(\) stands outside of a workflow's body; send it with sum_of_squares\.send\("
    with pytest.raises(WorkflowInvalid, match=called):
        sum_of_squares([1])


def test_a_transaction_takes_no_workflow() -> None:
    with pytest.raises(WorkflowInvalid, match="enqueues one task, and no workflow yet"):
        fulfil.on(object())
