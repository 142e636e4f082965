"""The tasks that benchmarks run: nothing but arguments in and a result out."""

import asyncio
import time

from pydantic import BaseModel

from hyrex import HyrexApp, HyrexRegistry, send_many, wait_all

HELD_S = 0.02


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


@hy.task
def sum_of_orders(count: int) -> int:
    """Have so many orders handled, and join their results."""
    handles = send_many(handle.call(order(number)) for number in range(count))
    wait_all(handles)
    return sum(each.result() for each in handles)


@hy.task(fair_key=lambda sent_ns, tenant: tenant)
async def hold(sent_ns: int, tenant: str) -> int:
    """As `stamp`; it holds its place for a while, and places are shared fairly among tenants."""
    waited = time.monotonic_ns() - sent_ns
    await asyncio.sleep(HELD_S)
    return waited


@hy.task
async def hold_in_turn(sent_ns: int, tenant: str) -> int:
    """As `hold`, in the order of the sends."""
    waited = time.monotonic_ns() - sent_ns
    await asyncio.sleep(HELD_S)
    return waited


def order(number: int) -> Order:
    """An order like any other."""
    return Order(order_id=number, customer="customer-0123456789@example.com", amount=99.95, express=True)
