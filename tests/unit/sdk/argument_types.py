"""Types of arguments, and their round trip."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Optional

from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from hyrex import HyrexRegistry
from hyrex.task import HyrexTask, coder_of

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
