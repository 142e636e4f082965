"""Arguments of many calls, decoded together."""

import enum
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, field_validator

from hyrex import HyrexRegistry
from hyrex.arguments.limits import LOT
from hyrex.errors import ArgumentInvalid
from hyrex.task import HyrexTask, coder_of


class Colour(enum.Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    lines: list[Line]
    notes: dict[str, Any] = {}
    parent: "Order | None" = None


class Checked(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _small(cls, n: int) -> int:
        return n


class Counted(BaseModel):
    made: int = Field(default_factory=lambda: 1)


class Posted(BaseModel):
    n: int

    def model_post_init(self, context: Any, /) -> None:
        pass


class Secret(BaseModel):
    n: int
    _note: str = PrivateAttr("x")


class Counting(BaseModel):
    n: int

    def __new__(cls, *args: Any, **kwargs: Any) -> "Counting":
        return super().__new__(cls)


class Named(BaseModel):
    metadata: Annotated[int, AfterValidator(lambda n: n)]


def task_of(hint: Any) -> HyrexTask[..., Any]:
    def each(value: Any) -> None:
        pass

    each.__annotations__["value"] = hint
    return HyrexRegistry().task(each)


@pytest.mark.parametrize(
    ("hint", "make"),
    [
        (int, lambda n: n),
        (str, lambda n: f"text {n} \N{SNOWMAN} ] , {{"),
        (Order, lambda n: Order(lines=[Line(sku=str(n))], parent=Order(lines=[], notes={"a": [n]}))),
        (list[Line], lambda n: [Line(sku="a", count=n)] * n),
        (Colour, lambda n: Colour.RED),
        (datetime, lambda n: datetime(2026, 1, 1, n % 24, tzinfo=UTC)),
        (UUID, lambda n: uuid4()),
        (set[int], lambda n: {n, 1}),
        (int | None, lambda n: n if n % 2 else None),
    ],
)  # fmt: skip
def test_a_lot_is_decoded_to_the_same_as_each_of_it(hint: Any, make: Callable[[int], Any]) -> None:
    coder = coder_of(task_of(hint))
    payloads = [coder.encode_arguments(make(n)) for n in range(LOT)]
    assert coder.decode_lot(payloads) == [coder.decode_arguments(payload) for payload in payloads]


def parts_that_fit_each_other() -> Sequence[bytes]:
    """As many values as payloads, if they are only written one after another; three payloads are wrong."""
    whole = b'{"value":1}'
    return [b'{"value":1},{"value":2}', b'{"value":"}', b'{"}', *[whole] * (LOT - 3)]


def test_halves_of_a_value_in_two_payloads_do_not_become_one() -> None:
    coder = coder_of(task_of(Any))
    payloads = parts_that_fit_each_other()
    assert coder.decode_lot(payloads) is None
    with pytest.raises(ArgumentInvalid):
        coder.decode_arguments(payloads[0])


@pytest.mark.parametrize("wrong", [b"", b"{}", b"nonsense", b'{"value":"x"}', b'{"value":1,"other":2}'])
def test_a_lot_with_a_wrong_payload_is_left_to_those_who_decode_each(wrong: bytes) -> None:
    assert coder_of(task_of(int)).decode_lot([wrong, *[b'{"value":1}'] * (LOT - 1)]) is None


@pytest.mark.parametrize(
    "hint",
    [Checked, list[Checked], Counted, Posted, Secret, Counting, Named, Annotated[int, AfterValidator(abs)]],
)
def test_code_of_the_user_validates_no_lot(hint: Any) -> None:
    payload = b'{"value":%s}' % (b"[]" if hint == list[Checked] else b'{"n":1}')
    assert coder_of(task_of(hint)).decode_lot([payload] * LOT) is None
