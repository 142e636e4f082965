"""Tasks with every kind of argument and result, for the contract's other tests."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from hyrex import HyrexApp, HyrexQueue, HyrexRegistry, NonRetryable, RetryAfter, get_hyrex_context
from tests.contract import kinds, seed_tasks

hy = HyrexRegistry()
inner = HyrexRegistry(queue="inner", max_retries=1, priority=7)
innermost = HyrexRegistry(queue="innermost")


class Colour(Enum):
    """An enum with text values."""

    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Nested below."""

    street: str
    since: datetime


class Person(BaseModel):
    """Nested models."""

    name: str
    addresses: list[Address]


@hy.task
def several(a: int, b: str, *, c: float = 0.5, d: list[int] | None = None) -> dict[str, object]:
    return {"a": a, "b": b, "c": c, "d": d}


@hy.task
def optional(value: int | None = None) -> int | None:
    return value


@hy.task
def of_dicts(rows: list[dict[str, int]]) -> list[dict[str, int]]:
    return [{key: value + 1 for key, value in row.items()} for row in rows]


@hy.task
def later_by(moment: datetime, step: timedelta) -> datetime:
    return moment + step


@hy.task
def identity(value: UUID) -> UUID:
    return value


@hy.task
def other_colour(colour: Colour) -> Colour:
    return Colour.BLUE if colour is Colour.RED else Colour.RED


@hy.task
def move(person: Person, street: str) -> Person:
    return Person(
        name=person.name, addresses=[*person.addresses, Address(street=street, since=datetime.now(UTC))]
    )


@hy.task
def nothing() -> None:
    return None


@hy.task
def size_of(text: str) -> int:
    return len(text)


@hy.task
def echo(value: Any) -> Any:
    return value


@hy.task
def flag(value: bool) -> bool:
    return value


@hy.task
async def async_sum(values: list[int]) -> int:
    await asyncio.sleep(0)
    return sum(values)


@hy.task
def unserialisable() -> object:
    return object()


@hy.task(max_retries=5)
def gives_up() -> None:
    raise NonRetryable("never")


@hy.task(max_retries=1, retry_backoff=3600)
def comes_back() -> int:
    context = get_hyrex_context()
    assert context is not None
    if context.attempt_number == 0:
        raise RetryAfter(0.05)
    return context.attempt_number


@hy.task(max_retries=1, retry_backoff=lambda n: n * 10)
def backs_off() -> None:
    raise ValueError("later")


@hy.task
def nap(seconds: float) -> None:
    time.sleep(seconds)


@hy.task(timeout_seconds=0.5)
def spins() -> None:
    while True:
        pass


@hy.task(timeout_seconds=0.5)
async def hangs() -> None:
    await asyncio.Event().wait()


@hy.task
def leaf() -> dict[str, str | None]:
    context = get_hyrex_context()
    assert context is not None
    trace = context.trace_context.hex()
    return {"parent": str(context.parent_id), "root": str(context.root_id), "trace": trace}


@hy.task
def branch() -> dict[str, str | None]:
    return leaf.send().result(timeout=30)


@hy.task
def root() -> dict[str, str | None]:
    return branch.send().result(timeout=30)


@inner.task
def of_inner() -> str:
    context = get_hyrex_context()
    assert context is not None
    return f"{context.queue} {context.priority}"


@innermost.task
def of_innermost() -> str:
    context = get_hyrex_context()
    assert context is not None
    return context.queue


@hy.remote(name="not.here")
def elsewhere(value: int) -> int: ...  # type: ignore[empty-body]


inner.add_registry(innermost)
hy.add_registry(inner)

app = HyrexApp("contract")
app.add_registry(hy)
app.add_registry(seed_tasks.hy)
app.add_registry(kinds.hy)
LIMITED = HyrexQueue("limited", concurrency_limit=1)
