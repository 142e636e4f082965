"""Which results may be which arguments, by the hints of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, NewType, TypedDict, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from hyrex.workflows.typefit import fits, fits_in_list, shown


class Animal(BaseModel):
    name: str


class Dog(Animal):
    tricks: int


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    LARGE = 1


class Row(TypedDict):
    id: int


@dataclass
class Point:
    x: int


UserId = NewType("UserId", int)
T = TypeVar("T")

FITTING = [
    (int, int),
    (int, float),
    (bool, int),
    (Dog, Animal),
    (int, int | None),
    (int | None, int),  # it may be one
    (int | str, str | None),
    (list[int], Sequence[float]),
    (list[Dog], list[Animal]),
    (list, list[int]),
    (dict[str, int], Mapping[str, int]),
    (dict[str, Any], Row),
    (Row, dict[str, Any]),
    (Colour, str),
    (UserId, int),
    (int, UserId),
    (Literal["a"], str),
    (str, Literal["a"]),
    (Annotated[int, Field(gt=0)], int),
    (datetime, date),
    (None, int | None),
    (T, int),
    (Any, Dog),
    (Dog, object),
    (tuple[int, str], tuple[int, ...]),
]
NOT_FITTING = [
    (int, str),
    (str, int),
    (float, int),
    (Animal, Dog),
    (dict[str, Any], Animal),
    (None, int),
    (int | float, str),
    (list[int], list[str]),
    (list[int], int),
    (int, list[int]),
    (dict[str, int], dict[str, str]),
    (str, Colour),
    (Size, Colour),
    (Literal[1], str),
    (list[list[int]], list[list[str]]),
    (Row, Animal),
    (Point, Animal),
    (UUID, str),
    (date, datetime),
]


@pytest.mark.parametrize(("source", "target"), FITTING, ids=str)
def test_what_can_be_an_argument_fits(source: Any, target: Any) -> None:
    assert fits(source, target)


@pytest.mark.parametrize(("source", "target"), NOT_FITTING, ids=str)
def test_what_never_can_be_one_does_not(source: Any, target: Any) -> None:
    assert not fits(source, target)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (int, list[int], True),
        (int, Sequence[float] | None, True),
        (int, tuple[int, ...], True),
        (int, list, True),
        (int, Any, True),
        (str, list[int], False),
        (int, int, False),
        (str, str, False),
        (str, dict[str, str], False),
    ],
)
def test_several_results_fit_where_a_list_of_them_does(source: Any, target: Any, expected: bool) -> None:
    assert fits_in_list(source, target) is expected


def test_hints_are_shown_as_they_are_written() -> None:
    assert [shown(hint) for hint in (int, list[int], str | None, Dog)] == [
        "int",
        "list[int]",
        "str | None",
        "Dog",
    ]
