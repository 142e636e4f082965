"""Arguments and results of every kind make the round trip through broker and worker."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyrex import ArgumentInvalid, TaskFailed, send_many
from hyrex.backend.origin import trace_by
from tests.contract import more_tasks as more

pytestmark = pytest.mark.usefixtures("served")

WAIT_S = 30.0
NOW = datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)
IDENTITY = uuid4()


@pytest.mark.parametrize(
    ("send", "expected"),
    [
        (lambda: more.several.send(1, "x"), {"a": 1, "b": "x", "c": 0.5, "d": None}),
        (lambda: more.several.send(1, b="x", c=2, d=[3]), {"a": 1, "b": "x", "c": 2.0, "d": [3]}),
        (more.optional.send, None),
        (lambda: more.optional.send(None), None),
        (lambda: more.optional.send(3), 3),
        (lambda: more.of_dicts.send([{"a": 1}, {}]), [{"a": 2}, {}]),
        (lambda: more.later_by.send(NOW, timedelta(seconds=1)), NOW + timedelta(seconds=1)),
        (lambda: more.identity.send(IDENTITY), IDENTITY),
        (lambda: more.other_colour.send(more.Colour.RED), more.Colour.BLUE),
        (more.nothing.send, None),
        (lambda: more.flag.send(False), False),
        (lambda: more.async_sum.send([1, 2, 3]), 6),
        (more.of_inner.send, "inner 7"),
        (more.of_innermost.send, "innermost"),
    ],
)
def test_round_trip(send: Callable[[], Any], expected: object) -> None:
    result = send().result(timeout=WAIT_S)
    assert result == expected
    assert type(result) is type(expected)


def test_nested_models_come_back_as_models() -> None:
    person = more.Person(name="Ada", addresses=[more.Address(street="old", since=NOW)])
    moved = more.move.send(person, "new").result(timeout=WAIT_S)
    assert isinstance(moved, more.Person)
    assert [address.street for address in moved.addresses] == ["old", "new"]


def test_a_mebibyte_of_payload_makes_the_trip() -> None:
    assert more.size_of.send("ä" * (512 * 1024)).result(timeout=WAIT_S) == 512 * 1024


untyped: Any = more
"""The same tasks for callers without a type checker."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_any_json_value_makes_the_trip(value: Any) -> None:
    result = more.echo.send(value).result(timeout=WAIT_S)
    assert result == value
    assert not isinstance(value, float) or math.copysign(1, result) == math.copysign(1, value)


@pytest.mark.parametrize(
    "send",
    [
        lambda: untyped.several.send("not a number", "x"),
        lambda: untyped.several.send(1),
        lambda: untyped.several.send(1, "x", unknown=2),
        lambda: untyped.of_dicts.send([{"a": object()}]),
        lambda: more.echo.send({1, 2}),
        lambda: more.echo.send({"when": NOW}),
        lambda: more.echo.send(float("nan")),
        lambda: untyped.flag.send("false please"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_leaves(send: Callable[[], Any]) -> None:
    with pytest.raises((ArgumentInvalid, TypeError)):
        send()


def test_a_result_that_cannot_be_serialised_fails_without_a_retry() -> None:
    handle = more.unserialisable.with_config(max_retries=3).send()
    with pytest.raises(TaskFailed, match="ResultNotSerializable"):
        handle.result(timeout=WAIT_S)
    assert len(handle.task_runs) == 1


def test_non_retryable_ends_at_once_and_retry_after_sets_the_delay() -> None:
    with pytest.raises(TaskFailed, match="never"):
        more.gives_up.send().result(timeout=WAIT_S)
    assert more.comes_back.send().result(timeout=60) == 1


def test_timeouts_end_busy_and_hung_code() -> None:
    handles = [more.spins.send(), more.hangs.send()]
    for handle in handles:
        assert not handle.wait(timeout=WAIT_S)
        assert handle.status == "timed_out"


def test_children_know_their_parent_and_root() -> None:
    handle = more.root.send()
    family = handle.result(timeout=WAIT_S)
    assert family["root"] == str(handle.id)
    assert family["parent"] not in (None, "None", str(handle.id))
    assert family["trace"] == ""


def test_children_of_a_task_belong_to_its_trace() -> None:
    trace = bytes(range(1, 27))
    trace_by(lambda: trace)
    try:
        sent = [more.root.send(), *send_many(more.leaf.call() for _ in range(2))]
    finally:
        trace_by(None)
    for handle in sent:
        assert handle.result(timeout=WAIT_S)["trace"] == trace.hex()
