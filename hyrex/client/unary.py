"""Unary calls of one process to its broker: made in the client's thread, waited for by their callers."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar

from hyrex.address import HOW_TO_REACH_ONE
from hyrex.config import Settings
from hyrex.errors import BrokerUnavailable
from hyrex.transport.calls import Calls

__all__ = ["Ask", "UnaryCalls"]

T = TypeVar("T")
Ask = Callable[[Calls], Coroutine[Any, Any, T]]


class Client(Protocol):
    """What has the thread."""

    settings: Settings

    @property
    def is_silent(self) -> bool:
        """True if there was no answer, and no broker said why."""
        ...

    @property
    def silence(self) -> str:
        """The beginning of an error text for a call without an answer."""
        ...

    def begin(self, make: Ask[T]) -> "Future[T]":
        """Begin a call."""
        ...

    def end_if_brief(self) -> None:
        """To be called at the end of what was begun."""


class UnaryCalls:
    """Calls that are waited for: for the send timeout, where none is given, and across forks."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, make: Ask[T], within_s: float | None = None) -> T:
        """The answer, blocking the calling thread. Raises BrokerUnavailable if there is none in time."""
        ends = time.monotonic() + self._patience(within_s)
        while True:
            future = self._client.begin(make)
            try:
                return future.result(ends - time.monotonic())
            except TimeoutError:
                raise self._unanswered() from None
            except CancelledError:
                pass  # the client's thread made way for a fork
            finally:
                future.cancel()
                self._client.end_if_brief()

    async def ask_async(self, make: Ask[T], within_s: float | None = None) -> T:
        """As ask(), awaiting on the caller's loop."""
        try:
            async with asyncio.timeout(self._patience(within_s)):
                while True:
                    try:
                        return await asyncio.wrap_future(self._client.begin(make))
                    except asyncio.CancelledError:
                        task = asyncio.current_task()
                        if task is None or task.cancelling():
                            raise
                        # nobody cancelled the caller: the client's thread made way for a fork
        except TimeoutError:
            raise self._unanswered() from None
        finally:
            self._client.end_if_brief()

    def _unanswered(self) -> BrokerUnavailable:
        advice = f". {HOW_TO_REACH_ONE}" if self._client.is_silent else ""
        return BrokerUnavailable(f"{self._client.silence}{advice}")

    def _patience(self, within_s: float | None) -> float:
        return self._client.settings.send_timeout_s if within_s is None else within_s
