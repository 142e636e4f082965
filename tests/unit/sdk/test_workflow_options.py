"""The options of a workflow, and which functions and names it may have."""

from typing import Any

import pytest

from hyrex import DuplicateTask, HyrexApp, HyrexRegistry
from tests.unit.sdk.workflow_tasks import (
    Order,
    diamond_of_tasks,
    one,
)


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
        (
            {"cron": "@daily"},
            r"no option cron: give cron to a task that .*At times of a clock",
        ),
        (
            {"tz": "UTC"},
            r"no option tz: give cron and tz to a task that .*At times of a clock",
        ),
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


def nothing_but_one() -> None:
    one.node()


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
