"""Classes and hints of every kind, as users write them: see tests/contract/kinds.py."""

import enum
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    Tag,
    computed_field,
    field_serializer,
    model_validator,
)
from typing_extensions import TypedDict

T = TypeVar("T")


class Animal(BaseModel):
    name: str


class Cat(BaseModel):
    name: str


class Dog(Animal):
    tricks: int = 0


class Pet(BaseModel):
    name: str


class Wolf(BaseModel):
    kind: Literal["wolf"] = "wolf"
    name: str


class Fox(BaseModel):
    kind: Literal["fox"] = "fox"
    name: str


class Box(BaseModel, Generic[T]):
    held: T


class Ids(RootModel[list[int]]):
    """A model that is a list."""


class Hidden(BaseModel):
    shown: int
    hidden: int = Field(default=0, exclude=True)


class Private(BaseModel):
    shown: int
    _kept: int = PrivateAttr(default=0)


class Renamed(BaseModel):
    a: int = Field(alias="A")
    b: int = Field(serialization_alias="written")
    c: int = Field(validation_alias="read")


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Sized(BaseModel):
    items: list[int]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.items)


class Stamped(BaseModel):
    token: int = Field(default_factory=lambda: 7)
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Halved(BaseModel):
    n: int

    @field_serializer("n")
    def half(self, n: int) -> int:
        return n // 2


class Counted(BaseModel):
    n: int

    @model_validator(mode="after")
    def count(self) -> "Counted":
        self.n += 1
        return self


class Measured(BaseModel):
    x: float


class MeasuredAsText(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    x: float


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    when: datetime
    amount: Decimal


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Point3(Point):
    z: float = 0.0


@dataclass
class Summed:
    a: int
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = self.a * 2


@dataclass
class Seeded:
    a: int
    seed: InitVar[int]

    def __post_init__(self, seed: int) -> None:
        self.a += seed


@dataclass(frozen=True, slots=True)
class Key:
    name: str


class Pair(NamedTuple):
    a: int
    b: str


class Options(TypedDict, total=False):
    depth: int


class MoreOptions(Options, total=False):
    width: int


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    RED = "red"


class Corner(enum.Enum):
    LEFT = (0, 1)


class Day(enum.Enum):
    FIRST = date(2026, 1, 1)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Tagged(str):
    """Text that is more than text."""


class Moment(datetime):
    """As pendulum and freezegun make them."""


class Labelled(float):
    """As numpy.float64: a float that is more than a float."""


def mutated() -> Animal:
    animal = Animal(name="x")
    animal.name = 3  # type: ignore[assignment]
    return animal


def of_private() -> Private:
    private = Private(shown=1)
    private._kept = 5
    return private


Doubled = Annotated[int, AfterValidator(lambda n: n * 2)]
Trimmed = Annotated[str, AfterValidator(str.strip)]
AsHex = Annotated[int, PlainSerializer(hex)]
Beast = Annotated[Wolf | Fox, Field(discriminator="kind")]
ByClass = Annotated[
    Annotated[Cat, Tag("Cat")] | Annotated[Pet, Tag("Pet")], Discriminator(lambda v: type(v).__name__)
]
BERLIN = ZoneInfo("Europe/Berlin")
