"""What a workflow's body makes: nodes, edges, names, arguments and a result."""

from collections.abc import Callable
from typing import Any

import pytest

from hyrex import ArgumentInvalid, HyrexRegistry, WorkflowInvalid
from hyrex.testing import inline
from hyrex.workflows.node import WorkflowNode
from tests.unit.sdk.workflow_tasks import (
    Order,
    charge,
    diamond_of_tasks,
    fulfil,
    made,
    one,
    ship,
    square,
    sum_of_squares,
    three,
    total,
    two,
    weigh,
)


def edges(graph: Any) -> list[tuple[str, str, str, bool]]:
    return [
        (graph.names[each.node], graph.names[at], each.parameter, each.runs_anyway)
        for at, upstreams in enumerate(graph.upstreams)
        for each in upstreams
    ]


def test_arrows_between_tasks_are_edges_without_arguments() -> None:
    graph = diamond_of_tasks.graph()
    assert graph.names == ("one", "two", "three", "total")
    assert edges(graph) == [
        ("one", "two", "", False),
        ("one", "three", "", False),
        ("two", "total", "", False),
        ("three", "total", "", False),
    ]
    assert (graph.sinks, graph.result, set(graph.payloads)) == (("total",), None, {b"{}"})


def test_results_are_arguments_and_edges() -> None:
    graph = fulfil.graph(Order(number=7, items=["lamp", "table"]))
    assert graph.names == ("charge", "weigh", "weigh-2", "ship", "tell")
    assert edges(graph) == [
        ("charge", "ship", "receipt", False),
        ("weigh", "ship", "weights[]", False),
        ("weigh-2", "ship", "weights[]", False),
        ("ship", "tell", "parcel", True),
    ]
    assert graph.payloads[1:] == (b'{"item":"lamp"}', b'{"item":"table"}', b"{}", b'{"number":7}')
    assert (graph.result, graph.sinks) == ("ship", ("tell",))


def test_nodes_stand_behind_what_they_wait_for_whichever_was_made_first() -> None:
    def body() -> None:
        last, first = three.node(), one.node()
        first >> two.node() >> last

    assert made(body).graph().names == ("one", "two", "three")


def test_a_task_that_stands_twice_is_one_node_and_each_node_call_another() -> None:
    def body() -> None:
        one >> two
        one >> three
        one.node() >> two
        two.with_config(queue="slow") >> one.node().named("last")

    graph = made(body).graph()
    assert sorted(graph.names) == ["last", "one", "one-2", "three", "two", "two-2"]
    assert graph.specs[graph.names.index("two-2")].config.queue == "slow"
    assert {(a, b) for a, b, _, _ in edges(graph)} == {
        ("one", "two"),
        ("one-2", "two"),
        ("one", "three"),
        ("two-2", "last"),
    }


def test_a_counted_name_gives_way_to_one_that_was_given() -> None:
    def body() -> None:
        one.node()
        one.node()
        two.node().named("one-2")

    assert made(body).graph().names == ("one", "one-3", "one-2")


def test_edges_may_go_on_after_a_bad_end_each_by_itself() -> None:
    def body() -> None:
        first, second = one.node(), two.node()
        three.node().after(first, runs_anyway=True).after(second)
        total.node().after(first, [second][0]).runs_anyway()

    assert edges(made(body).graph()) == [
        ("one", "three", "", True),
        ("two", "three", "", False),
        ("one", "total", "", True),
        ("two", "total", "", True),
    ]


def test_a_workflow_within_another_adds_its_nodes_there() -> None:
    def body() -> int:
        return square.node(sum_of_squares([1, 2])).result

    graph = made(body).graph()
    assert graph.names == ("square", "square-2", "total", "square-3")
    assert edges(graph)[-1] == ("total", "square-3", "number", False)


@pytest.mark.parametrize(
    ("result", "template"),
    [
        (lambda a, b: a.result, "one"),
        (lambda a, b: (b.result, a.result), ["two", "one"]),
        (lambda a, b: {"x": a.result}, {"x": "one"}),
        (lambda a, b: None, None),
    ],
)
def test_what_a_body_returns_is_kept_by_the_names_of_its_nodes(
    result: Callable[[WorkflowNode[int], WorkflowNode[int]], Any], template: Any
) -> None:
    assert made(lambda: result(one.node(), two.node())).graph().result == template


@pytest.mark.parametrize("number", [4, "x"])
def test_arguments_are_validated_before_the_body_runs(number: Any) -> None:
    seen: list[Order] = []

    def body(order: Order) -> None:
        seen.append(order)
        charge.node(order)

    workflow = HyrexRegistry().workflow(body)
    order = Order.model_construct(number=number, items=[])
    if number == 4:
        workflow.graph(order)
        assert seen == [order]
        assert seen[0] is not order
    else:
        with pytest.raises(ArgumentInvalid, match=r"order\.number"):
            workflow.graph(order)
        assert not seen


def test_a_graph_is_read_at_a_look() -> None:
    said = "<graph: charge; weigh; weigh-2; ship after charge, weigh, weigh-2; tell after ship>"
    assert repr(fulfil.graph(Order(number=7, items=["lamp", "table"]))) == said


def test_a_handle_says_which_nodes_there_are() -> None:
    with inline():
        handle = fulfil.send(Order(number=7, items=["lamp"]))
    assert list(handle.nodes) == ["charge", "weigh", "ship", "tell"]
    with pytest.raises(
        KeyError, match=r"fulfil has no node 'shop'; its nodes are charge, weigh, ship, tell\""
    ):
        handle.nodes["shop"]
    with pytest.raises(KeyError, match=r"has no node 'ship'; its nodes are not known here yet: call refresh"):
        fulfil.handle(handle.id).nodes["ship"]


def test_a_workflow_of_which_a_hint_is_defined_later_is_built_when_it_is_sent() -> None:
    hy = HyrexRegistry()
    names: dict[str, Any] = {"hy": hy}
    code = (
        "from __future__ import annotations\n@hy.task\ndef later(order: Later | None = None) -> None: ...\n"
    )
    exec(compile(code, "later", "exec"), names)

    def body() -> None:
        names["later"].node(None)

    workflow = hy.workflow(body)
    names["Later"] = Order
    assert workflow.graph().payloads == (b'{"order":null}',)


def test_a_key_that_is_made_of_a_result_is_refused_and_one_of_values_is_made() -> None:
    hy = HyrexRegistry()

    @hy.task(concurrency_key=lambda tenant, month: tenant)
    def export(tenant: str, month: int) -> None: ...

    graph = made(lambda: export.node("ada", 3) and None).graph()
    assert graph.specs[0].options.concurrency_key == "ada"
    given = export.with_config(concurrency_key="all")
    assert (
        made(lambda: given.node("ada", one.node().result) and None).graph().specs[1].options.concurrency_key
        == "all"
    )
    with pytest.raises(
        WorkflowInvalid, match="concurrency_key that is made of its arguments, and 'month' is known"
    ):
        made(lambda: export.node("ada", one.node().result) and None)


def test_weights_of_nothing_are_an_empty_list() -> None:
    graph = made(lambda: ship.node("r", [weigh.node("a").result][:0]) and None).graph()
    assert graph.payloads[-1] == b'{"receipt":"r","weights":[]}'
