"""Tasks and workflows for tests, found under their names by other processes."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from hyrex import HyrexApp, HyrexRegistry, HyrexWorkflow, get_hyrex_context

hy = HyrexRegistry()
app = HyrexApp("workflows")
app.add_registry(hy)


class Order(BaseModel):
    number: int
    items: list[str]


@hy.task
def charge(order: Order) -> str:
    return f"receipt {order.number}"


@hy.task
async def weigh(item: str) -> float:
    return float(len(item))


@hy.task
def ship(receipt: str, weights: list[float]) -> str:
    return f"{sum(weights):g} kg, {receipt}"


@hy.task
def tell(number: int, parcel: str = "no parcel") -> str:
    return f"{number}: {parcel}"


@hy.task
def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


@hy.task
def total(numbers: Sequence[int] = ()) -> int:
    return sum(numbers)


@hy.task
def where() -> list[object]:
    context = get_hyrex_context()
    assert context is not None
    told = context.workflow
    assert told is not None
    return [
        str(told.id),
        told.name,
        told.node,
        dict(told.arguments),
        str(context.parent_id),
        str(context.root_id),
    ]


@hy.task
def one() -> int:
    return 1


@hy.task
def two() -> int:
    return 2


@hy.task
def three() -> int:
    return 3


@hy.workflow
def fulfil(order: Order) -> str:
    receipt = charge.node(order)
    weights = [weigh.node(item) for item in order.items]
    parcel = ship.node(receipt.result, [each.result for each in weights])
    tell.node(order.number, parcel.result).runs_anyway()
    return parcel.result


@hy.workflow
def sum_of_squares(numbers: list[int]) -> int:
    return total.node([square.node(number).result for number in numbers]).result


@hy.workflow(name="diamond", queue="shapes", priority=7, labels={"team": "a"})
def diamond_of_tasks() -> None:
    one >> [two, three] >> total


def made(body: Callable[[], Any]) -> HyrexWorkflow[..., Any]:
    return HyrexRegistry().workflow(body)
