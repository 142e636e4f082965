"""Tasks whose values pydantic needs something more for, at their first; apart, since this loads pydantic."""

from decimal import Decimal

from pydantic import BaseModel

from hyrex import HyrexRegistry

hy = HyrexRegistry()


class Colour(BaseModel):
    red: int = 0


@hy.task
def price(a: int | Decimal) -> None: ...


@hy.task
def paint(a: Colour) -> None: ...
