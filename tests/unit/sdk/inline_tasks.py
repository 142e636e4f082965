"""Tasks for inline tests, which note the contexts that they saw."""

import asyncio

from hyrex import (
    HyrexContext,
    HyrexRegistry,
    get_hyrex_context,
)

hy = HyrexRegistry(queue="work")


seen: list[HyrexContext] = []


def see() -> HyrexContext:
    context = get_hyrex_context()
    assert context is not None
    seen.append(context)
    return context


@hy.task
async def sleepy(n: int) -> int:
    await asyncio.sleep(0)
    see()
    return n * 2


@hy.task
def child(k: int) -> int:
    see()
    return k * k
