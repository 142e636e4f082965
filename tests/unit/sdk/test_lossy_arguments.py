"""Arguments that JSON would change are refused where they are sent."""

from __future__ import annotations

import enum
import json
from collections import defaultdict, namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from hyrex import ArgumentInvalid, HyrexRegistry, PayloadTooLarge
from hyrex.task import HyrexTask, coder_of
from tests.unit.sdk.argument_types import Color, Line, Options, Order, Point, hy, round_trip

Pair = namedtuple("Pair", "a b")


class Text(str, enum.Enum):  # noqa: UP042
    A = "a"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"items": [1, 2, 3, (4,)]}, r"data\.items\[3\]: a tuple"),
        ({"s": {1, 2}}, r"data\.s: a set"),
        ({1: 2}, r"data: the key 1 is an int"),
        ({"a": {None: 1}}, r"data\.a: the key None"),
        ({"x": float("nan")}, r"data\.x: nan"),
        ({"x": [float("inf")]}, r"data\.x\[0\]: inf"),
        ({"x": datetime(2026, 1, 1)}, r"data\.x: a datetime\.datetime"),
        ({"x": b"raw"}, r"data\.x: a bytes"),
        ({"x": uuid4()}, r"data\.x: an? uuid\.UUID"),
        ({"x": Decimal(1)}, r"data\.x: a decimal\.Decimal"),
        ({"x": Color.RED}, r"data\.x: .*Color"),
        ({"x": Text.A}, r"data\.x: .*Text"),
        ({"x": Line(sku="a")}, r"data\.x: .*Line"),
        ({"x": Pair(1, 2)}, r"data\.x: .*Pair"),
        ({"not a name": {1}}, r"data\['not a name'\]: a set"),
        ({"x": "\ud800"}, r"data\.x: .*not valid Unicode"),
        ({"\ud800": 1}, r"data: .*not valid Unicode"),
        ({"x": object()}, r"data\.x: an object"),
    ],
)
@pytest.mark.parametrize("hint", [dict, Any, dict[str, Any], dict[str, object] | None])
def test_lossy_value_under_a_bare_hint_is_refused_naming_its_path(value: Any, path: str, hint: Any) -> None:
    def loose(data) -> None: ...  # type: ignore[no-untyped-def]

    loose.__annotations__ = {"data": hint, "return": None}
    task: HyrexTask[..., Any] = HyrexRegistry().task(loose)
    with pytest.raises(
        ArgumentInvalid,
        match=path if "the key 1" not in path else r"data(: the key 1 is an int|\[1\]\.\[key\]: )",
    ):
        coder_of(task).encode_arguments(value)


def test_json_values_under_a_bare_hint_arrive_unchanged() -> None:
    @hy.task
    def bare(data: dict, items: list, anything: Any) -> None: ...  # type: ignore[type-arg]

    given: dict[str, Any] = {"a": [1, -(2**70), 1.5, True, None, "ü\0", {"b": {}}]}
    assert round_trip(bare, given, [given], None) == {"data": given, "items": [given], "anything": None}
    assert round_trip(bare, defaultdict(int, a=1), [], 0)["data"] == {"a": 1}


def test_lossy_value_deep_inside_typed_arguments_is_found() -> None:
    @hy.task
    def deep(
        order: Order, point: Point, options: Options, by: dict[str, list[Line]], either: Line | int
    ) -> None: ...

    order, point = Order(order_id=1, lines=[Line(sku="a"), Line(sku="b", extra={"k": (1,)})]), Point(1)
    good = Order(order_id=1, lines=[])
    bad = Line(sku="b", extra={"k": [{2}]})
    with pytest.raises(ArgumentInvalid, match=r"order\.lines\[1\]\.extra\.k: a tuple"):
        coder_of(deep).encode_arguments(order, point, {}, {}, 1)
    with pytest.raises(ArgumentInvalid, match=r"order\.parent\.lines\[1\]\.extra\.k: a tuple"):
        coder_of(deep).encode_arguments(Order(order_id=2, lines=[], parent=order), point, {}, {}, 1)
    with pytest.raises(ArgumentInvalid, match=r"point\.tags\[0\]: a tuple"):
        coder_of(deep).encode_arguments(good, Point(1, tags=[()]), {}, {}, 1)
    with pytest.raises(ArgumentInvalid, match=r"options\.rest\.a: a set"):
        coder_of(deep).encode_arguments(good, point, {"rest": {"a": {1}}}, {}, 1)
    with pytest.raises(ArgumentInvalid, match=r"by\.x\[0\]\.extra\.k\[0\]: a set"):
        coder_of(deep).encode_arguments(good, point, {}, {"x": [bad]}, 1)
    with pytest.raises(ArgumentInvalid, match=r"either\.extra\.k\[0\]: a set"):
        coder_of(deep).encode_arguments(good, point, {}, {}, bad)


def test_nan_in_a_model_is_refused_because_it_would_become_null() -> None:
    class Measured(BaseModel):
        value: float

    @hy.task
    def measure(m: Measured) -> None: ...

    with pytest.raises(ArgumentInvalid, match=r"m\.value: nan has no form in JSON"):
        coder_of(measure).encode_arguments(Measured(value=float("nan")))

    @hy.task
    def place(at: list[Point]) -> None: ...

    with pytest.raises(ArgumentInvalid, match=r"at\[0\]\.y: inf has no form in JSON"):
        coder_of(place).encode_arguments([Point(1, float("inf"))])


def test_infinity_in_a_plain_float_arrives() -> None:
    @hy.task
    def bound(limit: float, limits: dict[str, float]) -> None: ...

    given = {"limit": float("-inf"), "limits": {"a": float("inf")}}
    assert round_trip(bound, **given) == given


def test_value_nested_too_deeply_is_refused_not_crashed_on() -> None:
    @hy.task
    def nested(data: list) -> None: ...  # type: ignore[type-arg]

    value: list[Any] = []
    for _ in range(170):
        value = [value]
    assert round_trip(nested, value) == {"data": value}
    for _ in range(2000):
        value = [value]
    with pytest.raises(ArgumentInvalid, match="nested"):
        coder_of(nested).encode_arguments(value)
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ArgumentInvalid, match="nested: "):
        coder_of(nested).encode_arguments(cycle)


def test_payload_over_the_limit_is_refused_with_both_sizes() -> None:
    @hy.task
    def heavy(text: str) -> None: ...

    assert len(coder_of(heavy).encode_arguments("x" * 1_048_576)) > 1_048_576
    with pytest.raises(PayloadTooLarge, match="heavy") as caught:
        coder_of(heavy).encode_arguments("x" * 5_000_000)
    assert caught.value.limit_bytes == 4 * 1024 * 1024
    assert caught.value.size_bytes > 5_000_000


def test_argument_errors_are_value_errors_with_pydantics_behind_them() -> None:
    @hy.task
    def typed(n: int) -> None: ...

    with pytest.raises(ValueError, match="typed: n: ") as caught:
        coder_of(typed).encode_arguments("x" * 1000)
    assert len(str(caught.value)) < 300
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b'{"n":1,"m":2}', b"{}", b'{"n":"x"}', b"\xff"])
def test_worker_refuses_payloads_that_do_not_fit(payload: bytes) -> None:
    @HyrexRegistry().task
    def fits(n: int) -> None: ...

    with pytest.raises(ArgumentInvalid, match="fits: "):
        coder_of(fits).decode_arguments(payload)


def test_payload_is_plain_json_for_other_languages() -> None:
    @hy.task
    def plain(order: Order, when: datetime) -> None: ...

    payload = coder_of(plain).encode_arguments(
        Order(order_id=1, lines=[Line(sku="ü")]), datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert json.loads(payload) == {
        "order": {
            "order_id": 1,
            "lines": [{"sku": "ü", "count": 1, "extra": {}}],
            "color": "red",
            "note": None,
            "parent": None,
        },
        "when": "2026-01-02T00:00:00Z",
    }
