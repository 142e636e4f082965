"""Sends after the commit of a transaction of Django's, for databases other than that of the brokers.

In the database of the brokers `task.on(connection).send(...)` is better: what it enqueues commits with the
transaction. Here the process may die between the commit and the send, and the task is not sent then.
"""

from collections.abc import Callable
from typing import Any, Generic, ParamSpec

from hyrex.contrib.needs import needing
from hyrex.sendable import Sendable
from hyrex.sending import send_many

with needing("django>=4.2"):
    from django.db import transaction

__all__ = ["AfterCommit", "on_commit"]

P = ParamSpec("P")


class AfterCommit(Generic[P]):
    """A task that is sent after the commit; made by `on_commit`."""

    def __init__(self, task: Sendable[P, Any], using: str | None, robust: bool) -> None:
        self._task = task
        self._using = using
        self._robust = robust

    def send(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Check the arguments now, and send the task after the commit; at once outside of a transaction.

        Raises ArgumentInvalid or PayloadTooLarge. What the send raises, the commit raises, unless `robust`:
        then Django logs it.
        """
        call = self._task.call(*args, **kwargs)
        after: Callable[[], object] = lambda: send_many([call])  # noqa: E731
        transaction.on_commit(after, using=self._using, robust=self._robust)


def on_commit(task: Sendable[P, Any], *, using: str | None = None, robust: bool = False) -> AfterCommit[P]:
    """Have a task sent after the commit: `on_commit(charge).send(order_id)`. `using`: the database."""
    if not isinstance(task, Sendable):
        raise TypeError(f"on_commit() takes a task, got {task!r:.200}")
    return AfterCommit(task, using, robust)
