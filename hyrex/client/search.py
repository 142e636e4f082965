"""Finds a task by asking every cell at once: the first that has it answers.

That no cell has it is known only when all have answered. While one is silent, the task may be there.
"""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Generic, TypeVar

from hyrex.client.cell import CellClient
from hyrex.client.unary import Ask
from hyrex.errors import BrokerUnavailable, HyrexError, TaskNotFound

__all__ = ["Misses", "Search"]

T = TypeVar("T")


class Misses:
    """What the cells said that did not have the task."""

    def __init__(self, clients: Sequence[CellClient]) -> None:
        self._clients = clients
        self._silent: set[CellClient] = set()
        self._missing: TaskNotFound | None = None
        self._refusal: HyrexError | None = None

    def note(self, client: CellClient, error: BaseException) -> None:
        """Note a cell's answer, or that there was none. Raises what is neither."""
        if isinstance(error, BrokerUnavailable):
            self._silent.add(client)
        elif isinstance(error, TaskNotFound):
            self._missing = error
        elif isinstance(error, HyrexError):
            self._refusal = error
        else:
            raise error

    def error(self, silent: Iterable[CellClient] = ()) -> HyrexError:
        """What to raise: BrokerUnavailable with each cell that was silent, a refusal, or TaskNotFound."""
        without = self._silent.union(silent)
        if said := "; ".join(client.silence for client in self._clients if client in without):
            others = " No other cell has the task." if self._missing is not None else ""
            return BrokerUnavailable(f"{said}.{others}")
        found = self._refusal or self._missing
        assert found is not None, "a cell is silent, refuses, or says that it has no such task"
        return found


class Search(Generic[T]):
    """One question to every cell."""

    def __init__(self, clients: Iterable[CellClient], make: Ask[T]) -> None:
        self._make = make
        self._clients = tuple(clients)
        self._asked: dict[Future[T], CellClient] = {}
        try:
            for client in self._clients:
                self._asked[client.begin(make)] = client
        except BaseException:
            self.end()
            raise

    def find(self, within_s: float) -> tuple[CellClient, T]:
        """The cell that has it, and its answer. Raises BrokerUnavailable, CallRejected, TaskNotFound."""
        ends, misses = time.monotonic() + within_s, Misses(self._clients)
        try:
            while self._asked:
                done, _ = wait(self._asked, max(0.0, ends - time.monotonic()), FIRST_COMPLETED)
                if not done:
                    break
                for future in done:
                    client = self._asked.pop(future)
                    if future.cancelled():  # its thread made way for a fork
                        self._asked[client.begin(self._make)] = client
                    elif (error := future.exception()) is None:
                        return client, future.result()
                    else:
                        misses.note(client, error)
            silent = list(self._asked.values())
        finally:
            self.end()
        raise misses.error(silent)

    def end(self) -> None:
        """Let go of what was asked and not answered."""
        for future, client in self._asked.items():
            future.cancel()
            client.end_if_brief()
        self._asked.clear()
