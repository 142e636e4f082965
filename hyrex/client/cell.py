"""The client of one cell, as CellsBackend needs it: what it is asked may be begun, and waited for later.

So a caller waits for several cells at once without threads of its own, and one cell that is silent delays no
other. Calls that concern one cell only are RemoteBackend's own.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from hyrex.backend.outgoing import Outgoing, SendResult
from hyrex.backend.protocol import Watched
from hyrex.cells import Cell
from hyrex.client.outbox import Parcel
from hyrex.client.remote import RemoteBackend
from hyrex.client.unary import Ask
from hyrex.client.waiters import ThreadWaiter
from hyrex.client.watchlist import Subscription
from hyrex.config import Settings
from hyrex.transport.convert import sizes_in_frame

__all__ = ["CellClient", "Posted", "Subscribed"]

T = TypeVar("T")


class Posted:
    """Tasks that a cell was given; `wait` may be repeated."""

    def __init__(self, parcel: Parcel, waiter: ThreadWaiter) -> None:
        self.parcel = parcel
        self._waiter = waiter

    def wait(self, within_s: float) -> None:
        """Wait for all answers, for so long after the last that came."""
        patience_s = within_s
        while not self._waiter.wait(patience_s) and patience_s > 0:
            patience_s = self.parcel.answered_at + within_s - time.monotonic()


class Subscribed:
    """Tasks that a cell was asked to watch; `wait` may be repeated until it is done."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        self.waiter = ThreadWaiter()
        self.subscription = Subscription(set(task_ids), self.waiter)
        self.is_done = False

    def wait(self, timeout_s: float | None) -> bool:
        """Return True if all have ended."""
        self.is_done = self.is_done or self.waiter.wait(timeout_s)
        return self.is_done


class CellClient(RemoteBackend):
    """Calls of one process to one cell."""

    def __init__(self, cell: Cell, settings: Settings) -> None:
        super().__init__(replace(settings, broker_url=cell.url, cells=None))
        self.cell = cell

    @property
    def silence(self) -> str:
        """The beginning of an error text for a call without an answer."""
        return f"cell {self.cell.name!r}: {super().silence}"

    @property
    def is_interrupted(self) -> bool:
        """True if this thread was interrupted in here, so that nothing may be waited for."""
        return self._is_interrupted

    @contextmanager
    def posted(self, tasks: Sequence[Outgoing]) -> Iterator[Posted]:
        """Have tasks sent; those without an answer at the end of the context are not repeated any more."""
        waiter = ThreadWaiter()
        parcel = Parcel(tasks, sizes_in_frame(tasks), waiter)
        try:
            with self._inside:
                self._post(parcel)
            yield Posted(parcel, waiter)
        finally:
            with self._inside:
                waiter.leave()
                if parcel.remaining:
                    self._outbox.abandon(parcel)
                if self._outbox.returned():
                    self._wake()
            self.end_if_brief()

    async def stored(self, tasks: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        """Store tasks once; what the cell has no room for is not sent again."""
        return await self._store_async(tasks, within_s)

    @contextmanager
    def subscribed(self, task_ids: Sequence[str]) -> Iterator[Subscribed]:
        """Watch tasks while the context lasts."""
        watched = Subscribed(task_ids)
        try:
            self._subscribe(watched.subscription)
            yield watched
        finally:
            watched.waiter.leave()
            self._unsubscribe(watched.subscription)

    def seen(self, subscribed: Subscribed) -> Watched:
        """What was seen of watched tasks. Raises BrokerUnavailable if the cell is away and nothing was."""
        return self._seen(subscribed.subscription, subscribed.is_done)

    async def asked(self, make: Ask[T]) -> T:
        """Make a unary call. Raises BrokerUnavailable after the send timeout."""
        return await self._calls.ask_async(make)
