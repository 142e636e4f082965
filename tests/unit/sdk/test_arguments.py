"""Arguments make the round trip exactly, or are refused where they are sent."""

from __future__ import annotations

import enum
import json
from collections import defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Optional
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from hyrex import ArgumentInvalid, HyrexRegistry, PayloadTooLarge
from hyrex.task import HyrexTask, coder_of, invoke

hy = HyrexRegistry()


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    sku: str
    count: int = 1
    extra: dict = Field(default_factory=dict)  # type: ignore[type-arg]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    order_id: int
    lines: list[Line]
    color: Color = Color.RED
    note: Optional[str] = None  # noqa: UP045
    parent: Order | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.lines)


class Aliased(BaseModel):
    plain: int
    both: int = Field(alias="bothAlias")
    reading: int = Field(validation_alias="readingAlias")
    writing: int = Field(serialization_alias="writingAlias")


@dataclass
class Point:
    x: float
    y: float = 0.0
    tags: list = field(default_factory=list)  # type: ignore[type-arg]


class Options(TypedDict, total=False):
    depth: int
    raw: bytes
    rest: dict[str, Any]


def round_trip(task: HyrexTask[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return coder_of(task).decode_arguments(coder_of(task).encode_arguments(*args, **kwargs))


@hy.task
def everything(
    order: Order,
    when: datetime,
    day: date,
    span: timedelta,
    key: UUID,
    color: Color,
    amount: Decimal,
    path: Path,
    raw: bytes,
    numbers: tuple[int, str],
    names: set[str],
    by_id: dict[int, Point],
    maybe: int | None,
    either: int | str,
    options: list[Options],
    choice: Literal["a", "b"],
    items: list[dict],  # type: ignore[type-arg]
) -> None: ...


def test_every_typed_value_arrives_as_it_was_sent() -> None:
    given: dict[str, Any] = {
        "order": Order(
            order_id=1, lines=[Line(sku="x", extra={"a": [1, None]})], parent=Order(order_id=0, lines=[])
        ),
        "when": datetime(2026, 11, 23, 16, 3, 1, 5, tzinfo=UTC),
        "day": date(2026, 11, 23),
        "span": timedelta(seconds=1, microseconds=3),
        "key": uuid4(),
        "color": Color.BLUE,
        "amount": Decimal("1.10"),
        "path": Path("/tmp/x"),
        "raw": b"\xff\x00",
        "numbers": (1, "b"),
        "names": {"a", "b"},
        "by_id": {7: Point(1.0, 2.5, ["t"])},
        "maybe": None,
        "either": "5",
        "options": [{"raw": b"\xff"}],
        "choice": "b",
        "items": [{"a": 1.5, "b": [True, None, "ü"]}],
    }
    assert round_trip(everything, **given) == given


def test_payload_is_an_object_by_parameter_name() -> None:
    @hy.task
    def shown(a: int, b: str = "x", *, c: bool = False) -> None: ...

    assert coder_of(shown).encode_arguments(1, c=True) == b'{"a":1,"c":true}'
    assert coder_of(shown).encode_arguments(1, "y") == b'{"a":1,"b":"y"}'


def test_task_without_parameters_has_an_empty_object() -> None:
    @hy.task
    def nothing() -> None: ...

    assert coder_of(nothing).encode_arguments() == b"{}"
    assert coder_of(nothing).decode_arguments(b"{}") == {}


def test_text_false_is_not_true() -> None:
    @hy.task
    def flag(on: bool) -> None: ...

    assert round_trip(flag, "false") == {"on": False}
    with pytest.raises(ArgumentInvalid, match=r"flag: on: .*got 'maybe'"):
        coder_of(flag).encode_arguments("maybe")


def test_constraints_of_annotated_hints_hold_on_both_sides() -> None:
    @hy.task
    def limited(n: Annotated[int, Field(gt=0)]) -> None: ...

    with pytest.raises(ArgumentInvalid, match="limited: n: Input should be greater than 0"):
        coder_of(limited).encode_arguments(0)
    with pytest.raises(ArgumentInvalid, match="limited: n: "):
        coder_of(limited).decode_arguments(b'{"n":0}')


def test_aliases_of_every_kind_make_the_round_trip() -> None:
    @hy.task
    def aliased(model: Aliased) -> None: ...

    model = Aliased.model_validate({"plain": 1, "bothAlias": 2, "readingAlias": 3, "writing": 4})
    assert round_trip(aliased, model) == {"model": model}


def test_mutated_model_that_no_longer_fits_is_refused() -> None:
    @hy.task
    def ordered(order: Order) -> None: ...

    order = Order(order_id=1, lines=[])
    order.order_id = "seven"  # type: ignore[assignment]
    with pytest.raises(ArgumentInvalid, match="ordered: "):
        coder_of(ordered).encode_arguments(order)


def test_dict_in_place_of_a_model_is_validated_into_it() -> None:
    @hy.task
    def ordered_too(order: Order) -> None: ...

    found = round_trip(ordered_too, {"order_id": "3", "lines": [{"sku": "a"}]})
    assert found["order"] == Order(order_id=3, lines=[Line(sku="a")])


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"z": 1}), ((), {"b": 1})],
)
def test_call_that_python_would_refuse_is_a_type_error_naming_the_task(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    @HyrexRegistry().task
    def pair(a: int, b: int = 0) -> None: ...

    with pytest.raises(TypeError, match=r"pair\(\): "):
        coder_of(pair).encode_arguments(*args, **kwargs)


def test_positional_only_parameters_are_invoked_as_such() -> None:
    @hy.task
    def strict(a: int, /, b: int, c: int = 3) -> list[int]:
        return [a, b, c]

    assert invoke(strict, round_trip(strict, 1, b=2)) == [1, 2, 3]


def test_odd_parameter_names_are_no_obstacle() -> None:
    @hy.task
    def odd(_x: int, model_config: int, json: int, self: int) -> None: ...

    assert round_trip(odd, 1, 2, 3, 4) == {"_x": 1, "model_config": 2, "json": 3, "self": 4}


def test_string_hints_may_name_local_classes_and_later_ones() -> None:
    class Local(BaseModel):
        n: int

    @hy.task
    def local(a: Local, b: Later) -> Local:
        return a

    assert round_trip(local, Local(n=1), Later(m=2)) == {"a": Local(n=1), "b": Later(m=2)}
    assert coder_of(local).decode_result(coder_of(local).encode_result(Local(n=1))) == Local(n=1)


def test_hint_that_names_nothing_says_so_at_first_use() -> None:
    @hy.task
    def unresolved(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match="unresolved: a type hint cannot be resolved: name 'Nowhere'"):
        coder_of(unresolved).encode_arguments(1)


def test_hint_that_pydantic_cannot_serve_says_so_at_first_use() -> None:
    class Opaque: ...

    @hy.task
    def opaque(a: Opaque) -> None: ...

    with pytest.raises(TypeError, match=r"task opaque: .*Opaque"):
        coder_of(opaque).build()


class Later(BaseModel):
    m: int


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
