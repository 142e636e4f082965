"""Arguments make the round trip exactly, or are refused where they are sent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field

from hyrex import ArgumentInvalid, HyrexRegistry
from hyrex.task import coder_of, invoke
from tests.unit.sdk.argument_types import Aliased, Color, Line, Options, Order, Point, hy, round_trip


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
