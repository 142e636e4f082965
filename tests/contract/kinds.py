"""One example of every kind of argument: what is hinted, what is sent, and what may become of it.

Both sides import this: the sender, and the worker that says in which shape a value arrived.
"""

import dataclasses
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pydantic import (
    BaseModel,
    Json,
    SecretStr,
)

from hyrex import HyrexRegistry
from tests.contract.kind_types import (
    BERLIN,
    Access,
    Animal,
    AsHex,
    Beast,
    Box,
    ByClass,
    Cat,
    Colour,
    Corner,
    Counted,
    Day,
    Dog,
    Doubled,
    Fox,
    Frozen,
    Halved,
    Hidden,
    Ids,
    Key,
    Labelled,
    Level,
    Measured,
    MeasuredAsText,
    Moment,
    MoreOptions,
    Open,
    Options,
    Pair,
    Pet,
    Point,
    Point3,
    Private,
    Renamed,
    Seeded,
    Sized,
    Stamped,
    Strict,
    Summed,
    Swapped,
    Tagged,
    Trimmed,
    Word,
    mutated,
    of_private,
)

hy = HyrexRegistry()


@dataclasses.dataclass(frozen=True)
class Kind:
    """`normal` is how it arrives where that is not as it was sent: one of the normal forms."""

    hint: Any
    value: Any
    said: str = ""  # the hint, where its own text is of no use
    shown: str = ""
    normal: Any = None
    served: bool = True  # a worker does not start with a hint that cannot work


KINDS: list[Kind] = [
    Kind(str, "ü"),
    Kind(str, "\ud800"),
    Kind(int, 2**70),
    Kind(int, 10**4300, shown="10**4300"),
    Kind(list[int], [10**4300], shown="[10**4300]"),
    Kind(bool, True),
    Kind(float, 0.1),
    Kind(float, -0.0),
    Kind(float, 1.7976931348623157e308),
    Kind(float, float("inf")),
    Kind(float, float("nan")),
    Kind(float, 2**53 + 1),
    Kind(float, 3, normal=3.0),
    Kind(list[float], [2**53 + 1]),
    Kind(int, True, normal=1),
    Kind(int, Level.HIGH, normal=3),
    Kind(int, "3", normal=3),
    Kind(str, Word.RED, normal="red"),
    Kind(str, Tagged("x"), normal="x"),
    Kind(float, Labelled(0.5), normal=0.5),
    Kind(complex, 1 - 2j),
    Kind(type(None), None, said="None"),
    Kind(int | None, None),
    Kind(bytes, b"\xff\x00"),
    Kind(Decimal, Decimal("1.10")),
    Kind(UUID, UUID(int=7)),
    Kind(date, date(2026, 1, 1)),
    Kind(datetime, datetime(2026, 1, 1, tzinfo=UTC), normal="UTC, as pydantic's zone"),
    Kind(datetime, datetime(2026, 1, 1)),
    Kind(datetime, datetime(2026, 10, 25, 2, 30, fold=1)),
    Kind(datetime, datetime(2026, 7, 1, tzinfo=BERLIN), normal="its offset, +02:00"),
    Kind(datetime, datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), normal="its offset, +01:00"),
    Kind(datetime, datetime(1800, 1, 1, tzinfo=BERLIN)),
    Kind(datetime, Moment(2026, 1, 1), normal=datetime(2026, 1, 1)),
    Kind(time, time(1, 2, 3, 4)),
    Kind(time, time(1, tzinfo=BERLIN)),
    Kind(time, time(1, tzinfo=timezone(timedelta(hours=1))), normal="its offset, +01:00"),
    Kind(timedelta, timedelta(days=-3, microseconds=1)),
    Kind(timedelta, timedelta.max, shown="timedelta.max"),
    Kind(Path, Path("/a/b")),
    Kind(re.Pattern[str], re.compile("a+")),
    Kind(re.Pattern[str], re.compile("a+", re.IGNORECASE)),
    Kind(IPv4Address, IPv4Address("10.0.0.1")),
    Kind(SecretStr, SecretStr("hunter2")),
    Kind(Json[list[int]], "[1, 2]", said="Json[list[int]]", normal=[1, 2]),
    Kind(Any, {"a": [1, 2.5, None, True, "ü"]}),
    Kind(Any, (1, 2)),
    Kind(Any, {1: "a"}),
    Kind(Any, datetime(2026, 1, 1)),
    Kind(Any, float("nan")),
    Kind(Any, Colour.RED),
    Kind(Any, Cat(name="x")),
    Kind(Any, OrderedDict(a=1)),
    Kind(Any, Labelled(0.5), normal=0.5),
    Kind(object, {1, 2}),
    Kind(dict, {"a": 1}),
    Kind(dict, defaultdict(int, a=1), normal={"a": 1}),
    Kind(list, [1, (2,)]),
    Kind(list[int], (1, 2), normal=[1, 2]),
    Kind(Sequence[int], [1, 2]),
    Kind(Sequence[int], (1, 2), normal=[1, 2]),
    Kind(Sequence[int], deque([1]), normal=[1]),
    Kind(Mapping[str, int], {"a": 1}),
    Kind(Iterable[int], [1], served=False),
    Kind(tuple[int, ...], (1, 2)),
    Kind(tuple[int, str], (1, "a")),
    Kind(list[int] | tuple[int, ...], (1, 2)),
    Kind(set[int], {1, 2}),
    Kind(frozenset[str], frozenset({"a"})),
    Kind(set[tuple[int, int]], {(1, 2)}),
    Kind(set[int | str], {1, "1"}, shown="{1, '1'}"),
    Kind(deque[int], deque([1, 2])),
    Kind(deque[int], deque([1, 2], maxlen=5)),
    Kind(defaultdict[str, int], defaultdict(int, a=1)),
    Kind(dict[int, str], {1: "a"}),
    Kind(dict[int, str], {1: "a", "1": "b"}),
    Kind(dict[int | str, str], {1: "a", "1": "b"}),
    Kind(dict[tuple[int, int], str], {(1, 2): "a"}),
    Kind(dict[bytes, int], {b"\xff": 1}),
    Kind(dict[UUID, int], {UUID(int=7): 1}),
    Kind(dict[date, int], {date(2026, 1, 1): 1}),
    Kind(dict[float, int], {0.5: 1}),
    Kind(dict[Colour, int], {Colour.RED: 1}),
    Kind(dict[bool, int], {True: 1}),
    Kind(Literal["a", "b"], "a"),
    Kind(Literal[1, True], True),
    Kind(Literal[1, "1"], "1"),
    Kind(Colour, Colour.RED),
    Kind(Level, Level.HIGH),
    Kind(Word, Word.RED),
    Kind(Corner, Corner.LEFT),
    Kind(Day, Day.FIRST),
    Kind(Access, Access.READ),
    Kind(Access, Access.READ | Access.WRITE),
    Kind(int | str, "1"),
    Kind(float | str, float("inf")),
    Kind(datetime | str, "2026-01-01T00:00:00Z"),
    Kind(UUID | str, str(UUID(int=7))),
    Kind(Colour | str, Colour.RED),
    Kind(Colour | str, "red"),
    Kind(Word | str, Word.RED),
    Kind(Decimal | float, 0.5),
    Kind(bytes | str, b"abc"),
    Kind(Path | str, Path("a")),
    Kind(Cat | Pet, Cat(name="x")),
    Kind(Cat | Pet, Pet(name="x")),
    Kind(Beast, Fox(name="x"), said="Wolf | Fox, discriminator kind"),
    Kind(ByClass, Pet(name="x"), said="Cat | Pet, discriminator type(v)"),
    Kind(Animal, Animal(name="x")),
    Kind(Animal, Dog(name="x", tricks=3)),
    Kind(Animal, {"name": "x"}, normal=Animal(name="x")),
    Kind(Animal, {"name": "x", "typo": 1}),
    Kind(Animal, mutated(), shown="Animal whose name was set to 3"),
    Kind(list[Animal], [Animal(name="x"), Dog(name="y")]),
    Kind(Box[int], Box[int](held=3)),
    Kind(Box[Any], Box[Any](held=(1,))),
    Kind(Ids, Ids([1, 2])),
    Kind(Hidden, Hidden(shown=1)),
    Kind(Hidden, Hidden(shown=1, hidden=5)),
    Kind(Private, Private(shown=1)),
    Kind(Private, of_private(), shown="Private(shown=1) with _kept=5"),
    Kind(Renamed, Renamed.model_validate({"A": 1, "b": 2, "read": 3})),
    Kind(Swapped, Swapped.model_validate({"a": 1, "b": 2})),
    Kind(Sized, Sized(items=[1, 2])),
    Kind(Stamped, Stamped(token=9), normal="UTC, as pydantic's zone"),
    Kind(Frozen, Frozen(n=1)),
    Kind(Open, Open.model_validate({"n": 1, "more": [1]})),
    Kind(Open, Open.model_validate({"n": 1, "more": (1,)})),
    Kind(Halved, Halved(n=6)),
    Kind(Counted, Counted(n=1)),
    Kind(Measured, Measured(x=float("nan"))),
    Kind(MeasuredAsText, MeasuredAsText(x=float("inf"))),
    Kind(Strict, Strict(when=datetime(2026, 1, 1), amount=Decimal("1.0"))),
    Kind(Doubled, 1, said="int, AfterValidator doubles"),
    Kind(Trimmed, " x ", said="str, AfterValidator strips", normal="x"),
    Kind(AsHex, 255, said="int, PlainSerializer(hex)"),
    Kind(Point, Point(1.5)),
    Kind(Point, Point(1), normal=Point(1.0)),
    Kind(Point, Point3(1.5, z=2.0)),
    Kind(Summed, Summed(2)),
    Kind(Seeded, Seeded(1, 2)),
    Kind(Key, Key("x")),
    Kind(dict[Key, int], {Key("x"): 1}),
    Kind(Pair, Pair(1, "a")),
    Kind(Options, Options(depth=1)),
    Kind(Options, MoreOptions(depth=1, width=2)),
]


def shape(value: Any) -> str:
    """A value's types and parts as text: two values of one shape are the same to any code."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, BaseModel):
        held = {**value.__dict__, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
        return f"{kind}({shape(held)})"
    if dataclasses.is_dataclass(value):
        return f"{kind}({shape([getattr(value, f.name, None) for f in dataclasses.fields(value)])})"
    if isinstance(value, dict):
        made_by = getattr(value, "default_factory", "")
        return f"{kind}{made_by}{{{', '.join(f'{shape(k)}: {shape(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple | deque):
        return f"{kind}{getattr(value, 'maxlen', '')}[{', '.join(map(shape, value))}]"
    if isinstance(value, set | frozenset):
        return f"{kind}{{{', '.join(sorted(map(shape, value)))}}}"
    if isinstance(value, SecretStr):
        return f"{kind} {value.get_secret_value()}"
    if type(value) is int and abs(value) > 10**100:
        return f"{kind} {hex(value)}"
    return f"{kind} {value!r}"


def _tasks_of(kind: Kind, number: int) -> tuple[Any, Any]:
    def argument(value):  # type: ignore[no-untyped-def]
        return shape(value)

    def result():  # type: ignore[no-untyped-def]
        return kind.value

    argument.__annotations__ = {"value": kind.hint, "return": str}
    result.__annotations__ = {"return": kind.hint}
    registry = hy if kind.served else HyrexRegistry()
    return (
        registry.task(name=f"argument_{number}")(argument),
        registry.task(name=f"result_{number}")(result),
    )


TASKS = [_tasks_of(kind, number) for number, kind in enumerate(KINDS)]
