"""Tasks whose numbers, log lines and spans are looked at."""

import asyncio
import logging
import os
import time
from pathlib import Path

from hyrex import HyrexApp, HyrexRegistry, NonRetryable, get_hyrex_context

hy = HyrexRegistry(queue="shop")
app = HyrexApp("observed")
app.add_registry(hy)
log = logging.getLogger("shop")


@hy.task
def pay(amount: int) -> int:
    """Returns."""
    log.warning("paid %d", amount, extra={"amount": amount, "message_of": "shop"})
    return amount


@hy.task(max_retries=1, retry_backoff=0)
def refuse() -> None:
    """Fails twice."""
    raise ValueError("no")


@hy.task
def refuse_for_good() -> None:
    """Fails once."""
    raise NonRetryable("never")


@hy.task
def vanish() -> None:
    """Ends its process."""
    os._exit(1)


@hy.task(queue="nowhere")
def wait_here() -> None:
    """Has no worker."""


@hy.task
def count_to(total: int, release: str) -> int:
    """Says how far it is, then waits for a file."""
    context = get_hyrex_context()
    assert context is not None
    for done in range(1, total + 1):
        context.progress(done, total, f"page {done}")
    while not Path(release).exists():
        time.sleep(0.02)
    return total


@hy.task
async def ponder(release: str) -> None:
    """Does not know how much there is to do."""
    context = get_hyrex_context()
    assert context is not None
    context.progress(0.5)
    while not os.path.exists(release):  # noqa: ASYNC240
        await asyncio.sleep(0.02)
