"""The tasks that benchmarks run: nothing but arguments in and a result out."""

import time

from pydantic import BaseModel

from hyrex import HyrexApp, HyrexRegistry


class Order(BaseModel):
    """About a hundred bytes of JSON."""

    order_id: int
    customer: str
    amount: float
    express: bool


hy = HyrexRegistry(queue="bench")
app = HyrexApp("bench")
app.add_registry(hy)


@hy.task
def handle(order: Order) -> int:
    """Return the order's number."""
    return order.order_id


@hy.task
def stamp(sent_ns: int) -> int:
    """Return how many nanoseconds passed between the send and this line."""
    return time.monotonic_ns() - sent_ns


def order(number: int) -> Order:
    """An order like any other."""
    return Order(order_id=number, customer="customer-0123456789@example.com", amount=99.95, express=True)
