"""What a type checker sees of the SDK; checked by mypy --strict, never run."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel

from hyrex import HyrexRegistry, TaskCall, TaskHandle, TaskRun, TaskStatus, get_task, send_many, wait_all
from hyrex.task import AsyncHyrexTask, HyrexTask

hy = HyrexRegistry()


class Order(BaseModel):
    order_id: int


@hy.task
def bare(order: Order, times: int = 1) -> list[str]:
    return [str(order.order_id)] * times


@hy.task(queue="q", max_retries=3, retry_backoff=lambda n: n * 10, no_retry_on=(ValueError,))
def configured(data: dict[str, int]) -> None: ...


@hy.task
async def bare_async(x: int) -> str:
    return str(x)


@hy.task(timeout_seconds=3)
async def configured_async(x: int) -> Order:
    return Order(order_id=x)


@hy.remote(name="billing.charge")
def charge(cents: int) -> bool:
    raise NotImplementedError


assert_type(bare(Order(order_id=1)), list[str])
assert_type(bare.send(Order(order_id=1), times=2), TaskHandle[list[str]])
assert_type(bare.send(Order(order_id=1)).result(), list[str])
assert_type(bare.call(Order(order_id=1)), TaskCall[list[str]])
assert_type(send_many(bare.call(Order(order_id=n)) for n in range(3)), Sequence[TaskHandle[list[str]]])
assert_type(bare.with_config(priority=9).send(Order(order_id=1)), TaskHandle[list[str]])
assert_type(configured.send({}), TaskHandle[None])
assert_type([bare_async(1)], list[Coroutine[Any, Any, str]])
assert_type(bare_async.send(1), TaskHandle[str])
assert_type(configured_async.send(1).result(timeout=3), Order)
assert_type(charge.send(5), TaskHandle[bool])
assert_type(bare.handle("0"), TaskHandle[list[str]])
assert_type(get_task("0"), TaskHandle[Any])
assert_type(wait_all([bare.handle("0"), charge.handle("1")]), bool)


def attributes(handle: TaskHandle[int]) -> None:
    assert_type(handle.id, UUID)
    assert_type(handle.status, TaskStatus | None)
    assert_type(handle.task_runs, list[TaskRun[int]])
    assert_type(handle.task_runs[0].result, int | None)
    assert_type(handle.wait(), bool)
    assert handle.status == "completed"


async def awaits() -> None:
    assert_type(await bare_async.send_async(1), TaskHandle[str])
    assert_type(await (await bare_async.send_async(1)).result_async(), str)
    assert_type(await bare_async(1), str)


def takes_any(task: HyrexTask[..., Any], other: AsyncHyrexTask[[int], str]) -> None:
    asyncio.run(other(1))


takes_any(bare, bare_async)

# Each of these is an error, and mypy would report an unused comment if it were not.
bare.send("x")  # type: ignore[arg-type]
bare.send()  # type: ignore[call-arg]
bare.send(Order(order_id=1), queue="x")  # type: ignore[call-arg]
bare.with_config(urgency=3)  # type: ignore[call-arg]
bare_async.send(x="1")  # type: ignore[arg-type]
charge.send(5, 6)  # type: ignore[call-arg]
hy.task(priority="high")  # type: ignore[call-overload]
