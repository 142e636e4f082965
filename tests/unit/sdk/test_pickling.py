"""Every public error and value is copied and pickled whole: process pools and caches do both."""

import copy
import inspect
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

import hyrex
from hyrex import HyrexQueue, HyrexRegistry, TaskHandle, errors
from hyrex.backend.known import acknowledge, observe, outgoing_of
from hyrex.backend.outgoing import prepare
from hyrex.handle import handle_of as sent_handle
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.transport.convert import submit_request

hy = HyrexRegistry(queue="work")


@hy.task
def add(a: int) -> int:
    return a


@hy.task(retry_backoff=lambda attempt: uuid4().int % 100)
async def shaky(a: int) -> int:
    return a


@hy.remote(name="elsewhere")
def stub(a: int) -> int:
    raise NotImplementedError


class Impatient(errors.RetryAfter):
    """A user's own, with a constructor of its own."""

    def __init__(self, customer: str) -> None:
        super().__init__(timedelta(seconds=2), f"{customer} waits")
        self.customer = customer


def handle_of(task: Any = add) -> TaskHandle[int]:
    target = task.with_config(priority=9, delay=3, labels={"a": "b"})
    handle: TaskHandle[int] = sent_handle(prepare(target._spec, b'{"a":1}'))
    submit_request([outgoing_of(handle)])  # as it was sent
    acknowledge(handle)
    return handle


RUN = RunSnapshot(0, 0, TaskStatus.COMPLETED, b"3", None, "", None, None, "w")
STATE = TaskSnapshot(str(uuid4()), "add", "work", TaskStatus.COMPLETED, (RUN,))
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "DuplicateTask": lambda: ("name", "here", "there"),
    "PayloadTooLarge": lambda: ("name", 5, 4),
    "SendRejected": lambda: ("no", "INVALID_FIELD", {"field": "x"}),
    "SubmitUnknown": lambda: ("no answer", handle_of()),
    "SendManyFailed": lambda: ([handle_of(), handle_of()], {1: errors.SendRejected("no", "R", {"a": "b"})}),
    "BrokerUnavailable": lambda: ("nobody", handle_of()),
    "CallRejected": lambda: ("no", "INTERNAL", "R", {"a": "b"}),
    "TaskNotFound": lambda: ("no", "NOT_FOUND", "TASK_NOT_FOUND", {}),
    "TokenInvalid": lambda: ("no", "UNAUTHENTICATED", "TOKEN_INVALID"),
    "TaskFailed": lambda: ("add failed", "ValueError", "bad", "Traceback ..."),
    "RetryAfter": lambda: (timedelta(seconds=3),),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
    "pickled": lambda value: pickle.loads(pickle.dumps(value)),
    "pickled by the oldest protocol": lambda value: pickle.loads(pickle.dumps(value, 0)),
}


def kinds_of_errors() -> list[type[BaseException]]:
    """All that the SDK defines, so that none is forgotten."""
    found = [
        kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, BaseException)
    ]
    return [kind for kind in found if kind.__name__ in errors.__all__]


def shown(value: Any) -> Any:
    """What there is to see of it."""
    if isinstance(value, TaskHandle):
        return [
            "handle",
            value.id,
            value.task_name,
            value.status,
            value.deduplicated,
            value.arguments_differ,
            value._decode,
            shown(value._outgoing),
        ]
    if isinstance(value, BaseException):
        return [type(value), str(value), *(shown(part) for part in (value.args, vars(value)))]
    if isinstance(value, dict):
        return {name: shown(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [shown(part) for part in value]
    if type(value).__name__ == "Outgoing":
        return submit_request([value])
    return value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", kinds_of_errors(), ids=lambda kind: kind.__name__)
def test_every_error_is_whole(kind: type[BaseException], way: str) -> None:
    error = kind(*ARGUMENTS.get(kind.__name__, lambda: ("text",))())
    again = WAYS[way](error)
    assert shown(again) == shown(error)
    assert isinstance(again, kind)


@pytest.mark.parametrize("way", WAYS)
def test_an_error_of_a_users_own_is_whole(way: str) -> None:
    again = WAYS[way](Impatient("Ada"))
    assert (str(again), again.seconds, again.customer) == ("Ada waits", 2.0, "Ada")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", [add, shaky, stub], ids=lambda task: task.name)
def test_tasks_calls_and_handles_are_whole(task: Any, way: str) -> None:
    assert WAYS[way](task) is task
    configured = WAYS[way](task.with_config(queue="other", timeout_seconds=4))
    assert (configured.config, configured._spec.task) == (
        task.with_config(queue="other", timeout_seconds=4).config,
        task,
    )
    call = WAYS[way](task.call(3))
    assert (call._spec.task, call._payload) == (task, b'{"a":3}')
    handle = handle_of(task)
    again = WAYS[way](handle)
    assert shown(again) == shown(handle)
    again.resend  # noqa: B018  # it has what it needs for that
    assert outgoing_of(again).task_id == str(handle.id)


@pytest.mark.parametrize("way", WAYS)
def test_runs_contexts_queues_and_options_are_whole(way: str) -> None:
    handle = handle_of()
    observe(handle, STATE)
    (run,) = handle.task_runs
    values: list[Any] = [
        run,
        TaskStatus.LOST,
        HyrexQueue("q", 3),
        add.config,
        add.options,
        TaskError("a", "b", "c"),
    ]
    assert WAYS[way](values) == values
    assert WAYS[way](run).result == 3
    assert WAYS[way](handle).task_runs == [run]


def test_a_task_that_no_other_process_finds_says_so_and_its_handle_travels_untyped() -> None:
    @HyrexRegistry().task
    def local(a: int) -> int:
        return a

    with pytest.raises(pickle.PicklingError, match="define it at the top of a module"):
        pickle.dumps(local)
    assert copy.deepcopy(local) is local
    handle = handle_of(local)
    assert shown(copy.copy(handle)) == shown(handle)
    again = pickle.loads(pickle.dumps(handle))
    assert (again.id, again.task_name, again.status) == (handle.id, "local", handle.status)
    with pytest.raises(errors.HyrexError, match="cannot be sent again"):
        again.resend()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_how_far_a_run_is_survives_a_copy(again: Callable[[Any], Any]) -> None:
    told = hyrex.RunProgress(3, 10, "rows", datetime(2026, 1, 1, tzinfo=UTC))
    assert again(told) == told


def test_everything_public_is_looked_at_here() -> None:
    values = {name for name in hyrex.__all__ if inspect.isclass(getattr(hyrex, name))}
    looked_at = {kind.__name__ for kind in kinds_of_errors()} | {
        "HyrexQueue", "HyrexTask", "RunProgress", "TaskCall", "TaskConfig", "TaskHandle", "TaskRun",
        "TaskStatus", "HyrexWorkflow", "WorkflowHandle",  # the last two in test_inline_workflows.py
    }  # fmt: skip
    # An app, a registry and middleware are the code itself; a context and what it is told belong to its run.
    of_code = {"HyrexApp", "HyrexRegistry", "Middleware", "Codec", "WorkflowNode"}
    of_runs = {"HyrexContext", "HyrexWorkflowContext", "RunInfo", "SendInfo", "PayloadInfo"}
    assert values - looked_at == of_code | of_runs
