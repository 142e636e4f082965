"""Names of other libraries: the error says what is called so here, and that is there."""

import inspect
import re
from collections.abc import Mapping

import pytest

from hyrex import HyrexApp, HyrexRegistry, HyrexTask, HyrexWorkflow, TaskHandle
from hyrex.definition import TaskOptions
from hyrex.other_names import OF_HANDLES, OF_OPTIONS, OF_TASKS, OF_WORKFLOWS

hy = HyrexRegistry()
ID = "01900000-0000-7000-8000-000000000000"


@hy.task
def add(x: int, y: int) -> int:
    return x + y


@hy.workflow
def both() -> int:
    return add.node(1, 2).result


@pytest.mark.parametrize(
    "of",
    [add, add.with_config(priority=7), both, both.with_config(priority=7)],
    ids=["task", "configured", "workflow", "configured workflow"],
)
def test_a_task_says_what_celerys_delay_is_called(of: object) -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'delay'; .* elsewhere is 'send' here$"):
        of.delay(1, 2)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"object has no attribute 'nothing'$"):
        of.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(of, "delay")


def test_a_handle_says_what_celerys_get_is_called() -> None:
    with pytest.raises(
        AttributeError, match=r"'TaskHandle' object has no attribute 'get'; .* 'result' here$"
    ):
        add.handle(ID).get()  # type: ignore[attr-defined]


def test_an_app_says_what_is_one_of_a_registry() -> None:
    app = HyrexApp("shop")
    told = r"'HyrexApp' object has no attribute 'task'; a registry has it: .* hy\.task, and app\.add_registry"
    with pytest.raises(AttributeError, match=told):
        app.task(print)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"object has no attribute 'nothing'$"):
        app.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(app, "task")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("countdown", "with_config has no option 'countdown'; did you mean delay?"),
        ("debouce_key", "with_config has no option 'debouce_key'; did you mean debounce_key?"),
        ("colour", "with_config has no option 'colour'; it has concurrency_key, debounce_key"),
    ],
)
def test_with_config_says_which_option_may_be_meant(option: str, told: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(told)):
        add.with_config(**{option: 3})  # type: ignore[arg-type]


def test_a_workflow_says_which_option_may_be_meant() -> None:
    with pytest.raises(TypeError, match=r"^with_config has no option 'eta'; did you mean run_at\?"):
        both.with_config(eta=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^with_config has no option 'max_retries'; it has delay, fail_fast"):
        both.with_config(max_retries=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("rate_limit", "a task has no option 'rate_limit'; did you mean rate?"),
        ("eta", "a task has no option 'eta': it is one of a send, task.with_config(run_at=...)"),
    ],
)
def test_a_decorator_says_which_option_may_be_meant(option: str, told: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(told)):
        hy.task(**{option: 3})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (OF_TASKS, set(dir(HyrexTask))),
        (OF_WORKFLOWS, set(dir(HyrexWorkflow))),
        (OF_HANDLES, set(dir(TaskHandle))),
        (
            OF_OPTIONS,
            set(inspect.signature(add.with_config).parameters)
            | set(inspect.signature(TaskOptions).parameters),
        ),
    ],
    ids=["tasks", "workflows", "handles", "options"],
)
def test_what_is_named_is_there_and_what_others_call_so_is_not(
    names: Mapping[str, str], there: set[str]
) -> None:
    assert set(names.values()) <= there
    assert not names.keys() & there
