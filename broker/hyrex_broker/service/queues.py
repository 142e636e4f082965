"""QueueService: queues for operators."""

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc
from hyrex_broker.domain.errors import QueueInUse, QueueNotFound
from hyrex_broker.domain.features import Feature, FeatureGate
from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.domain.rights import Scope
from hyrex_broker.engine.audit import Audit
from hyrex_broker.service import convert, fields, requests
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.pages import PageTokens, not_ours
from hyrex_broker.service.queue_changes import checked_change, told
from hyrex_broker.service.receiving import Context
from hyrex_broker.storage.purge import Purged
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.replica import Either

_DEFAULT_PAGE: Final = 100
_REASON_BYTES: Final = 1000
_STEP_S: Final = 1.0


class Lanes(Protocol):
    """The queues, limits and pauses that this broker knows."""

    async def make_queues(self, names: Sequence[str]) -> None:
        """Create queues. Raises TooManyQueues if too many would be new."""

    async def changed_here(self) -> None:
        """Read a change that this broker has just written, and notify the other brokers."""


class QueueServicer(queue_service_pb2_grpc.QueueServiceServicer):
    """The RPCs of QueueService. `purged` is told what a purge has cancelled; `terms` are the broker's, which
    no queue's are longer than. Queues that a caller may not see are not there for it."""

    def __init__(
        self,
        queues: Either[QueueStore],
        lanes: Lanes,
        purged: Callable[[Purged], None],
        audit: Audit,
        pages: PageTokens,
        terms: RetentionTerms,
    ) -> None:
        self._queues, self._store = queues, queues.primary
        self._terms = terms
        self._pages = pages
        self._lanes = lanes
        self._purged = purged
        self._audit = audit
        self.gate = FeatureGate()
        """That of the cluster, where there is one."""

    async def ListQueues(
        self, request: queue_service_pb2.ListQueuesRequest, context: Context
    ) -> queue_service_pb2.ListQueuesResponse:
        size = requests.page_size(request.page_size, _DEFAULT_PAGE)
        after = await self._pages.cursor(request.page_token, ["queues"]) or ""
        caller = current_caller()
        sees = None if caller.unlimited else caller.sees
        page = await self._queues.ask(lambda store: store.page(after, size, sees=sees))
        more = page[-1].name if len(page) == size else None
        return queue_service_pb2.ListQueuesResponse(
            queues=map(convert.queue, page), next_page_token=await self._pages.token(more, ["queues"])
        )

    async def GetQueue(
        self, request: queue_service_pb2.GetQueueRequest, context: Context
    ) -> queue_service_pb2.GetQueueResponse:
        name = _visible(request.name, Scope.READ)
        return queue_service_pb2.GetQueueResponse(queue=await self._queue(name))

    async def UpdateQueue(
        self, request: queue_service_pb2.UpdateQueueRequest, context: Context
    ) -> queue_service_pb2.UpdateQueueResponse:
        name = _visible(request.name, Scope.ADMIN)
        change = checked_change(request, self._terms)
        if change.limit.rate is not None:
            await self.gate.require(Feature.RATES)
        await self._audit.record(current_caller().name, "queue.update", name, told(change))
        await self._lanes.make_queues([name])
        await self._store.update(name, change)
        await self._lanes.changed_here()
        return queue_service_pb2.UpdateQueueResponse(queue=await self._queue(name))

    async def PurgeQueue(
        self, request: queue_service_pb2.PurgeQueueRequest, context: Context
    ) -> queue_service_pb2.PurgeQueueResponse:
        name = _visible(request.name, Scope.ADMIN)
        reason = fields.short_text(request.reason, "reason", _REASON_BYTES) or "the queue was purged"
        filters = ["purge", name]
        begun = await self._pages.cursor(request.step, filters)
        if begun is None and await self._store.find(name) is None:
            raise QueueNotFound(name)
        until = _moment(begun) if begun is not None else await self._store.now()
        # Each step: whoever has got hold of an old one would purge without an entry.
        goes_on = {} if begun is None else {"goes_on_until": until.isoformat()}
        await self._audit.record(current_caller().name, "queue.purge", name, {"reason": reason} | goes_on)
        ends_at = time.monotonic() + _STEP_S if request.in_steps else math.inf
        cancelled = 0
        async for purged in self._store.purge(name, reason, until):
            cancelled += len(purged.task_ids)
            self._purged(purged)
            if time.monotonic() >= ends_at:
                step = await self._pages.token(until.isoformat(), filters)
                return queue_service_pb2.PurgeQueueResponse(cancelled=cancelled, next_step=step)
        return queue_service_pb2.PurgeQueueResponse(cancelled=cancelled)

    async def DeleteQueue(
        self, request: queue_service_pb2.DeleteQueueRequest, context: Context
    ) -> queue_service_pb2.DeleteQueueResponse:
        name = _visible(request.name, Scope.ADMIN)
        await self._audit.record(current_caller().name, "queue.delete", name)
        if not await self._store.delete(name):
            await self._queue(name)
            raise QueueInUse(name)
        await self._lanes.changed_here()
        return queue_service_pb2.DeleteQueueResponse()

    async def _queue(self, name: str) -> queue_service_pb2.Queue:
        view = await self._store.find(name)
        if view is None:
            raise QueueNotFound(name)
        return convert.queue(view)


def _visible(text: str, scope: Scope) -> str:
    """The name of a queue that the caller has this scope for. Raises InvalidField, QueueNotFound."""
    name = fields.name(text, "name")
    if not current_caller().may(scope, name):
        raise QueueNotFound(name)
    return name


def _moment(cursor: str) -> datetime:
    """The time up to which a purge cancels tasks, set in its first step. Raises PageTokenInvalid."""
    try:
        moment = datetime.fromisoformat(cursor)
        # The first and the last day of all overflow in some zones, and in Postgres' client too.
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise not_ours("step") from None
