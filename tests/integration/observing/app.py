"""Tasks whose numbers, log lines and spans are looked at."""

import logging
import os

from hyrex import HyrexApp, HyrexRegistry, NonRetryable

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
