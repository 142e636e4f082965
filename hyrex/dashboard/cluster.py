"""What the cluster looks like now, asked once for each token however many pages show it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from hyrex.dashboard.brokers import Brokers
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import queue_service_pb2 as wire

FRESH_S: Final = 1.5
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Queues by name, workers newest first, brokers by name. `taken` is monotonic time."""

    queues: tuple[wire.Queue, ...]
    workers: tuple[admin.WorkerSession, ...]
    brokers: tuple[admin.Broker, ...]
    capped: bool
    taken: float

    def queue(self, name: str) -> wire.Queue | None:
        """The queue of this name."""
        return next((queue for queue in self.queues if queue.name == name), None)


class ClusterView:
    """Snapshots of the cluster as tokens see it."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._known: dict[str | None, Snapshot] = {}
        self._asking: dict[str | None, asyncio.Task[Snapshot]] = {}

    async def seen_by(self, token: str | None) -> Snapshot:
        """A snapshot that is at most `FRESH_S` old. Raises: CallFailed."""
        known = self._known.get(token)
        if known is not None and time.monotonic() - known.taken < FRESH_S:
            return known
        asking = self._asking.get(token)
        if asking is None:
            asking = self._asking[token] = asyncio.ensure_future(self._ask(token))
            asking.add_done_callback(lambda _: self._asking.pop(token, None))
        return await asyncio.shield(asking)

    def forget(self) -> None:
        """Ask again at the next look: something was changed."""
        self._known.clear()

    async def _ask(self, token: str | None) -> Snapshot:
        calls = self._brokers.as_seen_by(token)
        taken = time.monotonic()
        found, workers, brokers = await asyncio.gather(
            calls.read("queues", "ListQueues", wire.ListQueuesRequest(page_size=PAGE)),
            calls.read("admin", "ListWorkers", admin.ListWorkersRequest(page_size=PAGE)),
            calls.read("admin", "ListBrokers", admin.ListBrokersRequest()),
        )
        capped = bool(found.next_page_token or workers.next_page_token)
        fresh = Snapshot(tuple(found.queues), tuple(workers.workers), tuple(brokers.brokers), capped, taken)
        self._drop_old(taken)
        self._known[token] = fresh
        return fresh

    def _drop_old(self, now: float) -> None:
        for token in [key for key, each in self._known.items() if now - each.taken > FRESH_S]:
            del self._known[token]
