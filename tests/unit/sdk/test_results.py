"""What a task returns is stored as JSON and comes back by its return annotation."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from hyrex import HyrexRegistry, ResultInvalid, ResultNotSerializable, ResultUnavailable, TaskFailed
from hyrex.results import result_of
from hyrex.runs import decode_freely
from hyrex.task import HyrexTask, coder_of
from hyrex.transport.convert import task_state
from hyrex.v1 import task_pb2


class Report(BaseModel):
    when: datetime
    count: int


def task_returning(hint: Any) -> HyrexTask[..., Any]:
    def returns() -> Any: ...

    returns.__annotations__ = {} if hint is None else {"return": hint}
    task: HyrexTask[..., Any] = HyrexRegistry().task(returns)
    return task


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 3),
        (type(None), None),
        (Report, Report(when=datetime(2026, 1, 1, tzinfo=UTC), count=1)),
        (list[Report] | None, None),
        (tuple[int, str], (1, "a")),
        (dict[int, set[str]], {1: {"a"}}),
        (bytes, b"\xff"),
        (float, math.inf),
        (None, {"a": [1, None, "ü"]}),
        (None, None),
    ],
)
def test_result_comes_back_as_it_was_returned(hint: Any, value: Any) -> None:
    task = task_returning(hint)
    assert coder_of(task).decode_result(coder_of(task).encode_result(value)) == value


def test_none_is_stored_as_null() -> None:
    assert coder_of(task_returning(None)).encode_result(None) == b"null"
    assert decode_freely(b"null") is None


def test_value_that_fits_the_annotation_after_validation_is_stored_by_it() -> None:
    task = task_returning(Report)
    assert coder_of(task).encode_result({"when": "2026-01-01T00:00:00Z", "count": "4"}) == (
        b'{"when":"2026-01-01T00:00:00Z","count":4}'
    )


def test_unannotated_result_is_stored_as_pydantic_would() -> None:
    coder = coder_of(task_returning(None))
    found = coder.decode_result(
        coder.encode_result({"r": Report(when=datetime(2026, 1, 1, tzinfo=UTC), count=1), "t": (1, 2)})
    )
    assert found == {"r": {"when": "2026-01-01T00:00:00Z", "count": 1}, "t": [1, 2]}


@pytest.mark.parametrize(
    ("hint", "make"),
    [
        (None, object),
        (None, lambda: open),
        (None, lambda: b"\xff".decode("latin-1").join(["\ud800"])),
        (int, lambda: "x"),
        (type(None), lambda: 3),
        (Report, lambda: {"count": 1}),
    ],
)
def test_result_that_cannot_be_stored_is_refused(hint: Any, make: Callable[[], object]) -> None:
    with pytest.raises(ResultNotSerializable, match="returns returned what"):
        coder_of(task_returning(hint)).encode_result(make())


def test_result_that_refers_to_itself_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ResultNotSerializable):
        coder_of(task_returning(None)).encode_result(cycle)


def test_stored_result_that_does_not_fit_the_hint_is_invalid() -> None:
    with pytest.raises(ResultInvalid, match="result of returns: "):
        coder_of(task_returning(int)).decode_result(b'"x"')


@pytest.mark.parametrize(
    ("status", "run", "error"),
    [
        (task_pb2.TASK_STATUS_COMPLETED, task_pb2.RUN_STATUS_COMPLETED, ResultUnavailable),
        (task_pb2.TASK_STATUS_FAILED, task_pb2.RUN_STATUS_FAILED, TaskFailed),
    ],
)
def test_a_result_that_the_token_may_not_see_is_not_taken_for_none(
    status: task_pb2.TaskStatus.ValueType, run: task_pb2.RunStatus.ValueType, error: type[Exception]
) -> None:
    runs = [task_pb2.TaskRun(status=run, error=task_pb2.RunError(type="ValueError"))]
    state = task_state(task_pb2.Task(name="total", status=status, runs=runs, hidden=True))
    assert state.runs[0].result is None
    with pytest.raises(error, match="hidden from this token, which lacks the scope 'payload'"):
        result_of(state, lambda data: data)


@pytest.mark.parametrize(("number", "cause"), [(0, None), (1, "requested"), (2, "purged"), (77, "77")])
def test_the_cause_of_a_cancel_is_told_that_of_a_later_broker_too(number: int, cause: str | None) -> None:
    run = task_pb2.TaskRun(status=task_pb2.RUN_STATUS_CANCELLED)
    run.MergeFromString(bytes([12 << 3, number]))
    task = task_pb2.Task(name="total", status=task_pb2.TASK_STATUS_CANCELLED, runs=[run])
    assert task_state(task).runs[0].cause == cause
