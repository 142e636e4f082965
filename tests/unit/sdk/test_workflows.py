"""What a workflow's body makes: nodes, edges and names, and what it may not make."""

from collections.abc import Callable
from typing import Any

import pytest

from hyrex import ArgumentInvalid, DuplicateTask, HyrexApp, HyrexRegistry, HyrexWorkflow, WorkflowInvalid
from hyrex.errors import DefinitionError
from hyrex.testing import inline
from hyrex.workflows.node import WorkflowNode
from tests.unit.sdk.workflow_tasks import (
    Order,
    charge,
    diamond_of_tasks,
    fulfil,
    one,
    ship,
    square,
    sum_of_squares,
    tell,
    three,
    total,
    two,
    weigh,
)


def made(body: Callable[[], Any]) -> HyrexWorkflow[..., Any]:
    return HyrexRegistry().workflow(body)


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


REFUSED = [
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


def test_options_are_the_decorators_the_registrys_and_those_of_the_call() -> None:
    hy = HyrexRegistry(queue="all", priority=2)

    @hy.workflow(labels={"a": "b"})
    def flow() -> None:
        one.node()

    sent = flow.with_config(queue="other", idempotency_key="k", delay=3, fail_fast=True)
    assert (flow.config.queue, flow.config.priority, flow.options.labels) == ("all", 2, {"a": "b"})
    assert (sent._spec.config.queue, sent._spec.options.idempotency_key, sent.fail_fast) == (
        "other",
        "k",
        True,
    )
    assert (diamond_of_tasks.name, diamond_of_tasks.config.queue) == ("diamond", "shapes")
    assert hy.workflows == {"flow": flow}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workflow_arg_schema": Order}, r"no option workflow_arg_schema: give its function a parameter"),
        ({"priorty": 3}, r"hy\.workflow has no option priorty: did you mean priority\?"),
        ({"colour": 3}, r"hy\.workflow has no option colour: it has name, queue, priority, fail_fast"),
        ({"cron": "@daily"}, "no option cron: give cron to a task that sends the workflow"),
        ({"priority": 11}, "workflow one_node: priority must be 1..10, got 11"),
        ({"fail_fast": 1}, "workflow one_node: fail_fast must be True or False, got 1"),
        ({"labels": {"a": 1}}, "workflow one_node: labels must be a mapping of str to str"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], text: str) -> None:
    def one_node() -> None:
        one.node()

    with pytest.raises((TypeError, ValueError), match=text):
        HyrexRegistry().workflow(**options)(one_node)


def test_a_body_is_a_plain_function() -> None:
    async def waits() -> None: ...

    for body in (waits, print, Order):
        with pytest.raises(TypeError, match="plain"):
            HyrexRegistry().workflow(body)


def test_tasks_and_workflows_share_their_names() -> None:
    hy = HyrexRegistry()

    @hy.task(name="a")
    def task() -> None: ...

    with pytest.raises(DuplicateTask):
        hy.workflow(name="a")(nothing_but_one)
    other = HyrexRegistry()
    other.workflow(name="a")(nothing_but_one)
    app = HyrexApp("shop")
    app.add_registry(hy)
    with pytest.raises(DuplicateTask):
        app.add_registry(other)


def nothing_but_one() -> None:
    one.node()


def test_a_transaction_takes_no_workflow() -> None:
    with pytest.raises(WorkflowInvalid, match="enqueues one task, and no workflow yet"):
        fulfil.on(object())


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
