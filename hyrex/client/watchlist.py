"""Which callers wait for which tasks. They subscribe from any thread; the watcher passes on what it sees."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from hyrex.client.waiters import Waiter, notify_all
from hyrex.errors import HyrexError
from hyrex.runs import TaskSnapshot

__all__ = ["Subscription", "Watchlist"]

_WATCHED: Final = object()


@dataclass(slots=True, eq=False)
class Subscription:
    """One caller's tasks; those in `pending` have not ended yet."""

    pending: set[str]
    waiter: Waiter
    states: dict[str, TaskSnapshot] = field(default_factory=dict)
    failures: dict[str, HyrexError] = field(default_factory=dict)


class Watchlist:
    """Subscriptions by task, and the tasks that no stream watches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, list[Subscription]] = {}
        self._latest: dict[str, TaskSnapshot] = {}
        self._unwatched: dict[str, None] = {}
        self._dropped: list[str] = []

    def add(self, subscription: Subscription) -> None:
        """Pass to this subscription what is known of its tasks, and what is seen from now on."""
        with self._lock:
            for task_id in subscription.pending:
                there = self._by_id.setdefault(task_id, [])
                there.append(subscription)
                if len(there) == 1:
                    self._unwatched[task_id] = None
                elif task_id in self._latest:
                    subscription.states[task_id] = self._latest[task_id]

    def remove(self, subscription: Subscription) -> None:
        """Forget this subscription."""
        with self._lock:
            for task_id in subscription.pending:
                self._drop(task_id, subscription)
            subscription.pending.clear()

    def _drop(self, task_id: str, subscription: Subscription) -> None:
        there = self._by_id.get(task_id, [])
        if subscription in there:
            there.remove(subscription)
        if not there:
            self._by_id.pop(task_id, None)
            self._latest.pop(task_id, None)
            if self._unwatched.pop(task_id, _WATCHED) is _WATCHED:
                self._dropped.append(task_id)

    def take_unwatched(self, limit: int) -> list[str]:
        """Remove and return up to `limit` tasks that somebody waits for and no stream watches."""
        with self._lock:
            taken = list(islice(self._unwatched, limit))
            for task_id in taken:
                del self._unwatched[task_id]
            return taken

    @property
    def has_subscribers(self) -> bool:
        """Return True if there is any subscription."""
        return bool(self._by_id)

    @property
    def has_unwatched(self) -> bool:
        """Return True if there are tasks that no stream watches."""
        return bool(self._unwatched)

    def put_back(self, task_ids: Iterable[str]) -> None:
        """Note that these tasks lost their stream: those with subscriptions need another one."""
        with self._lock:
            self._unwatched.update((task_id, None) for task_id in task_ids if task_id in self._by_id)

    def put_back_all(self) -> None:
        """Note that no stream is left."""
        with self._lock:
            self._unwatched = dict.fromkeys(self._by_id)
            self._dropped.clear()

    def take_dropped(self) -> list[str]:
        """Remove and return watched tasks without subscriptions. A new subscription needs another stream."""
        if not self._dropped:
            return []
        with self._lock:
            dropped, self._dropped = self._dropped, []
            return dropped

    def observe(self, states: Iterable[TaskSnapshot]) -> None:
        """Pass states to the subscriptions; wake those that have nothing pending any more."""
        finished: list[Waiter] = []
        with self._lock:
            for state in states:
                there = self._by_id.get(state.task_id)
                if there is None:
                    continue
                self._latest[state.task_id] = state
                for subscription in list(there):
                    subscription.states[state.task_id] = state
                    if state.status.is_final:
                        self._finish(subscription, state.task_id, finished)
        notify_all(finished)

    def fail(self, task_ids: Iterable[str], error: HyrexError) -> None:
        """Note that these tasks can never be watched, because of this error."""
        finished: list[Waiter] = []
        with self._lock:
            for task_id in task_ids:
                for subscription in list(self._by_id.get(task_id, ())):
                    subscription.failures[task_id] = error
                    self._finish(subscription, task_id, finished)
        notify_all(finished)

    def fail_all(self, error: HyrexError) -> None:
        """End all subscriptions with this error."""
        with self._lock:
            everything = list(self._by_id)
        self.fail(everything, error)

    def _finish(self, subscription: Subscription, task_id: str, finished: list[Waiter]) -> None:
        subscription.pending.discard(task_id)
        self._drop(task_id, subscription)
        if not subscription.pending:
            finished.append(subscription.waiter)
