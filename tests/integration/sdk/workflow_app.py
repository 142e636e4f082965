"""Workflows that a real worker runs."""

import os
from pathlib import Path

from hyrex import HyrexApp, HyrexRegistry
from hyrex.contrib.compressed import Compressed
from tests.unit.sdk.workflow_tasks import hy as tasks
from tests.unit.sdk.workflow_tasks import square, tell, total, where

hy = HyrexRegistry()
coded = HyrexRegistry()
app = HyrexApp("workflows")
app.add_registry(hy)
app.add_registry(tasks)
coded_app = HyrexApp("coded", codec=Compressed(above_bytes=1))
coded_app.add_registry(coded)


@hy.task
def once(marker: str) -> int:
    """Fails as long as there is no such file."""
    if not Path(marker).exists():
        raise FileNotFoundError(marker)
    return os.getpid()


@hy.workflow
def late(marker: str) -> list[str]:
    first = once.node(marker)
    second = tell.node(first.result, "parcel").named("second")
    third = tell.node(3).after(second)
    anyway = tell.node(4).after(first, runs_anyway=True).named("anyway")
    return [third.result, anyway.result]


@hy.workflow
def here(words: list[str]) -> list[object]:
    return where.node().named("the one").result


@hy.workflow
def fan_out(count: int) -> int:
    squares = [square.node(number) for number in range(count)]
    return total.node([each.result for each in squares]).result


@coded.task
def repeat(text: str, times: int) -> str:
    return text * times


@coded.task
async def join(texts: list[str], between: str) -> str:
    return between.join(texts)


@coded.workflow
def coded_flow(word: str) -> str:
    return join.node([repeat.node(word, 2).result, repeat.node(word, 3).result], "-").result


@hy.approval
def approve(amount: int) -> bool:
    raise NotImplementedError


@hy.task
def refund(amount: int, approved: bool) -> str:
    return f"{amount} refunded" if approved else "refused"


@hy.workflow
def refunded(amount: int) -> str:
    answer = approve.node(amount).after(square.node(1))
    return refund.node(amount, answer.result).result
