"""What a hint proves is sent at once; what it does not makes the round trip, and says what changed."""

import dataclasses
import traceback
from collections import deque
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    OnErrorOmit,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    field_validator,
)
from pydantic import dataclasses as pydantic_dataclasses
from typing_extensions import TypedDict

from hyrex import ArgumentInvalid, HyrexRegistry, ResultNotSerializable
from hyrex.arguments.exactness import always, exact_when, never
from hyrex.task import HyrexTask, coder_of


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    number: int
    price: float
    items: list[Item]
    when: datetime
    colour: Colour = Colour.RED
    parent: "Order | None" = None
    parts: "list[Order]" = Field(default_factory=list)
    kits: dict[str, list[Item]] = Field(default_factory=dict)


class Gift(Item):
    ribbon: str = "red"


@dataclasses.dataclass
class Part:
    """Of the standard library: pydantic drops what it does not know."""

    item: Item | None = None
    weight: float = 0.0


@pydantic_dataclasses.dataclass
class Checked:
    """Validated by a validator of its own."""

    item: Item | None = None


class Row(NamedTuple):
    item: Item
    weight: float = 0.0


class Crate(BaseModel):
    part: Part
    sizes: set[int] = set()
    row: Row | None = None
    days: list[date] = []


class Ignoring(TypedDict):
    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]
    n: int


class Veiled(Enum):
    """Says another value than it has."""

    A = "a"
    B = "b"

    @property
    def value(self) -> str:
        return "b"


class Secretive(BaseModel):
    _kept: int = PrivateAttr(default=0)


class Bounded(BaseModel):
    n: int = Field(gt=0)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Validated(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def grown(cls, n: int) -> int:
        return n + 1


def order(**changed: Any) -> Order:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return Order(number=1, price=0.5, items=[Item(sku="a")], when=when).model_copy(update=changed)


def task_of(hint: Any, result: Any = None) -> HyrexTask[..., Any]:
    def takes(value): ...  # type: ignore[no-untyped-def]

    takes.__annotations__ = {"value": hint, "return": result}
    task: HyrexTask[..., Any] = HyrexRegistry().task(takes)
    return task


@pytest.mark.parametrize(
    "hint",
    [
        str, int, float, bool, bytes, UUID, Colour, None, int | None, int | str, Literal["a", "b"],
        list[int], list[float], tuple[int, ...], tuple[int, str],
        set[int], frozenset[str], dict[int, float],
    ],
)  # fmt: skip
def test_a_plain_hint_needs_no_look_at_its_values(hint: Any) -> None:
    assert exact_when(TypeAdapter(hint).core_schema) is always


@pytest.mark.parametrize(
    "hint",
    [
        Decimal, Item | Gift, float | str, datetime | str, dict[int | str, int], Literal[1, True], SecretStr,
        Secretive, Bounded, Open, Validated, list[Validated], dict[str, Bounded], tuple[int, Decimal],
    ],
)  # fmt: skip
def test_what_is_not_known_to_be_exact_makes_the_round_trip(hint: Any) -> None:
    assert exact_when(TypeAdapter(hint).core_schema) is never


@pytest.mark.parametrize(
    ("changed", "exact"),
    [
        ({}, True),
        ({"number": True}, False),
        ({"number": "1"}, False),
        ({"price": 1}, False),
        ({"price": float("nan")}, False),
        ({"items": (Item(sku="a"),)}, False),
        ({"items": [Gift(sku="a")]}, False),
        ({"items": [Item.model_construct(sku=3)]}, False),
        ({"items": [Item(sku="a"), Item.model_construct(sku=3)]}, False),
        ({"items": [Item.model_construct()]}, False),
        ({"kits": {"a": [Item(sku="a")]}}, True),
        ({"kits": {"a": [Item(sku="a"), Gift(sku="a")]}}, False),
        ({"parts": [order(), order()]}, True),
        ({"parts": [order(), order(price=1)]}, False),
        ({"when": datetime(2026, 1, 1, fold=1)}, False),
        ({"colour": "red"}, False),
        ({"parent": order()}, True),
        ({"parent": order(number=None)}, False),
    ],
)
def test_a_model_is_exact_as_long_as_it_holds_what_its_fields_say(
    changed: dict[str, Any], exact: bool
) -> None:
    fits = exact_when(TypeAdapter(Order).core_schema)
    assert fits not in (always, never)
    assert fits(order(**changed)) is exact


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (list[Item], [Item(sku="a"), Gift(sku="b")], r"value\[1\]: .*Gift.*Item.*hint Gift"),
        (Item, {"sku": "a", "cuont": 2}, r"Item has no field 'cuont' and would drop it; leave it out"),
        (float | str, float("inf"), r"value: inf would arrive as 'Infinity'; "),
        (Colour | str, Colour.RED, r"value: .*<Colour\.RED: 'red'> as 'red'"),
        (dict[int | str, int], {1: 1, "1": 2}, r"value: the key 1 is an int and would arrive as '1'; "),
        (SecretStr, SecretStr("hunter2"), r"send its name"),
        (int, 10**4300, r"value: .*more than 4,300 digits.*hex"),
        (dict[str, Any], {"a": [10**4300]}, r"value\.a\[0\]: .*more than 4,300 digits"),
        (list[date], [datetime(2026, 1, 1, tzinfo=UTC)], r"value\[0\]: .* lose the zone of .*hint datetime"),
        (float, 2**53 + 1, r"value: no float is 9007199254740993, the nearest is 9007199254740992\.0"),
    ],
    ids=lambda part: part[:30] if isinstance(part, str) else type(part).__name__,  # no long int as text
)
def test_a_refusal_names_the_path_both_values_and_the_remedy(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(ArgumentInvalid, match=message) as caught:
        coder_of(task_of(hint)).encode_arguments(value)
    assert str(caught.value).startswith("takes: ")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ResultNotSerializable, match="its return annotation"):
        coder_of(task_of(int, result=hint)).encode_result(value)


ODD_ITEM = {"sku": "a", "odd": 1}


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (set[int], {1, "1"}),
        (dict[str, int], {b"a": 1, "a": 2}),
        (set[str], {b"a", "a"}),
        (date | None, datetime(2026, 1, 1, tzinfo=UTC)),
        (dict[date, int], {datetime(2026, 1, 1, tzinfo=UTC): 1}),
        (set[date], {datetime(2026, 1, 1, tzinfo=UTC)}),
        (set[float], {2**53 + 1}),
        (dict[float, str], {2**53 + 1: "a"}),
        (Crate, {"part": {}, "days": [datetime(2026, 1, 1, tzinfo=UTC)]}),
        (list[frozenset[Decimal]], [{1.1, Decimal("1.1")}]),
        (float, Fraction(1, 3)),
        (complex, 2**53 + 1),
        (Part, {"odd": 1}),
        (dict[str, list[Part]], {"x": [{"odd": 1}]}),
        (Part, {"item": ODD_ITEM}),
        (Part, {"weight": 2**53 + 1}),
        (Checked, {"odd": 1}),
        (Checked, {"item": ODD_ITEM}),
        (Part | Item, {"sku": "a", "odd": 1}),
        (deque[Item], deque([ODD_ITEM])),
        (Sequence[Item], deque([ODD_ITEM])),
        (Row, Row(ODD_ITEM, 1)),  # type: ignore[arg-type]
        (Crate, {"part": {"odd": 1}}),
        (Crate, {"part": {"item": ODD_ITEM}}),
        (Crate, {"part": {}, "sizes": {1, "1"}}),
        (Crate, {"part": {}, "row": (ODD_ITEM,)}),
        (Ignoring, {"n": 1, "odd": 1}),
        (Veiled, Veiled.A),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),  # sets have no order to be named by
)
def test_what_validation_would_drop_wherever_it_stands_is_refused(hint: Any, value: Any) -> None:
    with pytest.raises(ArgumentInvalid):
        coder_of(task_of(hint)).encode_arguments(value)
    with pytest.raises(ResultNotSerializable):
        coder_of(task_of(int, result=hint)).encode_result(value)


class Deferred(BaseModel):
    model_config = ConfigDict(defer_build=True)
    n: int


def test_a_class_that_is_built_late_travels_as_argument_and_as_result() -> None:
    task = task_of(Deferred, result=Deferred)
    assert coder_of(task).decode_arguments(coder_of(task).encode_arguments(Deferred(n=1))) == {
        "value": Deferred(n=1)
    }
    assert coder_of(task).decode_result(coder_of(task).encode_result(Deferred(n=1))) == Deferred(n=1)


def test_a_hint_of_which_pydantic_makes_no_validator_is_told_with_its_task() -> None:
    with pytest.raises(TypeError, match=r"task takes: .*on_error = omit"):
        coder_of(task_of(OnErrorOmit[int])).build()


CARD = "41" * 8  # not as text: a traceback shows lines of code


class Odd:
    def __repr__(self) -> str:
        return CARD


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, CARD + "x"),
        (Any, (CARD,)),
        (Decimal | str, CARD),
        (Item, {"sku": CARD, "odd": CARD}),
        (float, int(CARD + CARD)),
        (set[int], {int(CARD), CARD}),
        (dict[int | str, int], {int(CARD): 1}),
        (Any, CARD + "\ud800"),
        (Validated, Validated(n=int(CARD))),
        (None, (Odd(),)),
        (None, {"x": SecretStr(CARD)}),
        (None, {int(CARD): 1}),
    ],
    ids=lambda part: "",
)
def test_what_a_worker_cannot_store_is_described_without_its_value(hint: Any, value: Any) -> None:
    def returns(): ...  # type: ignore[no-untyped-def]

    task = HyrexRegistry().task(returns) if hint is None else task_of(int, result=hint)
    with pytest.raises(ResultNotSerializable) as caught:
        coder_of(task).encode_result(value)
    told = "".join(traceback.format_exception(caught.value))
    assert CARD[:8] not in told


def test_a_model_that_holds_itself_is_refused() -> None:
    circle = order()
    circle.parent = circle
    with pytest.raises(ArgumentInvalid, match=r"takes: value\.parent\.parent.* nested deeper .*or in itself"):
        coder_of(task_of(Order)).encode_arguments(circle)
    with pytest.raises(ResultNotSerializable, match="in itself"):
        coder_of(task_of(int, result=Order)).encode_result(circle)


def test_long_text_of_digits_is_no_long_int() -> None:
    task = task_of(dict[str, int | str])
    value = {"digits": "1" * 10_000, "n": 10**4299}
    assert coder_of(task).decode_arguments(coder_of(task).encode_arguments(value)) == {"value": value}


def test_a_secret_leaves_no_trace_in_an_unannotated_result() -> None:
    def returns(): ...  # type: ignore[no-untyped-def]

    task: HyrexTask[..., Any] = HyrexRegistry().task(returns)
    kept = Secretive()
    kept._kept = 3
    for lost in ({"a": SecretStr("x")}, {1: "a"}, kept, {"x": float("nan")}, object()):
        with pytest.raises(ResultNotSerializable, match=r"annotat|not a JSON value"):
            coder_of(task).encode_result(lost)


def test_what_a_worker_cannot_decode_is_described_without_its_value() -> None:
    payload = f'{{"value":"{CARD}x"}}'.encode()
    with pytest.raises(ArgumentInvalid, match="value: Input should be a valid integer") as caught:
        coder_of(task_of(int)).decode_arguments(payload)
    assert CARD not in "".join(traceback.format_exception(caught.value))
