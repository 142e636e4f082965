"""AdminService: what operators see and steer by. It answers about workers and brokers itself; tokens, bulk
operations, statistics and the like have modules of their own."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc
from hyrex_broker.domain.errors import InvalidField, PageTokenInvalid, PeerNotFound, StorageUnavailable
from hyrex_broker.domain.model import SessionId
from hyrex_broker.domain.rights import EVERY_QUEUE, Scope
from hyrex_broker.engine.overview import Overview
from hyrex_broker.service import convert, requests
from hyrex_broker.service.bulk import BulkRpcs
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.cluster import ClusterViews
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.refused import RefusedParts, RefusedRpcs
from hyrex_broker.service.stats import StatReads
from hyrex_broker.service.tokens import TokenParts, TokenRpcs
from hyrex_broker.service.why import Reasons
from hyrex_broker.storage.peers import NEWEST, PeerStore
from hyrex_broker.storage.replica import Either

_DEFAULT_PAGE: Final = 100
_PAGE_BYTES: Final = 8 * 1024 * 1024
"""Below the 16 MiB of a message, with room for one worker more."""
_AT_A_TIME: Final = 20
_MOST_LOOKED_AT: Final = 1000
"""For one page, of which a caller may see few."""


@dataclass(frozen=True, slots=True)
class AdminParts:
    """What answers the other RPCs."""

    reasons: Reasons
    stats: Either[StatReads]
    overview: Overview[admin_service_pb2.WatchClusterResponse]
    views: ClusterViews
    bulk: BulkRpcs


class AdminServicer(TokenRpcs, RefusedRpcs, admin_service_pb2_grpc.AdminServiceServicer):
    """The RPCs of AdminService.

    `drain_session` asks a worker served here to drain; `drain_broker` begins the end of this broker.
    """

    def __init__(
        self,
        peers: Either[PeerStore],
        drain_session: Callable[[SessionId], None],
        drain_broker: Callable[[], None],
        parts: AdminParts,
        tokens: TokenParts,
        refused: RefusedParts,
    ) -> None:
        TokenRpcs.__init__(self, tokens)
        RefusedRpcs.__init__(self, refused)
        self._peers = peers
        self._drain_session = drain_session
        self._drain_broker = drain_broker
        self._parts = parts
        self._audit = tokens.audit
        self._pages = tokens.pages

    async def ListWorkers(
        self, request: admin_service_pb2.ListWorkersRequest, context: Context
    ) -> admin_service_pb2.ListWorkersResponse:
        size = requests.page_size(request.page_size, _DEFAULT_PAGE)
        filters = ["workers", request.include_ended]
        before = _session_before(await self._pages.cursor(request.page_token, filters))
        workers, last = await self._workers(before, size, ended=request.include_ended)
        return admin_service_pb2.ListWorkersResponse(
            workers=workers, next_page_token=await self._pages.token(last, filters)
        )

    async def _workers(
        self, before: SessionId, size: int, *, ended: bool
    ) -> tuple[list[admin_service_pb2.WorkerSession], str | None]:
        """Up to `size` workers, fewer if they are large (one may have 10,000 names) or if the caller may see
        few; and the last one looked at, None if there are no more."""
        workers: list[admin_service_pb2.WorkerSession] = []
        left, looked, caller = _PAGE_BYTES, 0, current_caller()
        while len(workers) < size:
            asked = min(size - len(workers), _AT_A_TIME)
            find = partial(PeerStore.sessions, before=before, size=asked, ended=ended)
            found = await self._peers.ask(find)
            for view in found:
                if caller.covers_all(view.queue_patterns):
                    worker = convert.session(view)
                    left -= worker.ByteSize()
                    if workers and left < 0:
                        return workers, str(before)
                    workers.append(worker)
                before = view.session_id
            if len(found) < asked:
                return workers, None
            looked += len(found)
            if looked >= _MOST_LOOKED_AT:
                break
        return workers, str(before)

    async def DrainWorker(
        self, request: admin_service_pb2.DrainWorkerRequest, context: Context
    ) -> admin_service_pb2.DrainWorkerResponse:
        session_id = SessionId(requests.number_id(request.session_id, "session_id"))
        caller = current_caller()
        found = await self._peers.primary.sessions(SessionId(session_id + 1), 1, ended=False)
        if not found or found[0].session_id != session_id or not caller.covers_all(found[0].queue_patterns):
            raise PeerNotFound("living worker session", request.session_id)
        await self._audit.record(
            caller.name, "worker.drain", str(session_id), {"worker": found[0].worker_name}
        )
        if not await self._peers.primary.drain(session_id):
            raise PeerNotFound("living worker session", request.session_id)
        self._drain_session(session_id)
        return admin_service_pb2.DrainWorkerResponse()

    async def ListBrokers(
        self, request: admin_service_pb2.ListBrokersRequest, context: Context
    ) -> admin_service_pb2.ListBrokersResponse:
        brokers = await self._peers.ask(lambda store: store.brokers())
        return admin_service_pb2.ListBrokersResponse(brokers=map(convert.broker, brokers))

    async def DrainBroker(
        self, request: admin_service_pb2.DrainBrokerRequest, context: Context
    ) -> admin_service_pb2.DrainBrokerResponse:
        caller = current_caller()
        caller.require(Scope.ADMIN, EVERY_QUEUE)
        await self._audit.record(caller.name, "broker.drain", "")
        self._drain_broker()
        return admin_service_pb2.DrainBrokerResponse()

    async def Why(
        self, request: admin_service_pb2.WhyRequest, context: Context
    ) -> admin_service_pb2.WhyResponse:
        return await self._parts.reasons.why(request, current_caller())

    async def GetStats(
        self, request: admin_service_pb2.GetStatsRequest, context: Context
    ) -> admin_service_pb2.GetStatsResponse:
        return await self._parts.stats.ask(lambda stats: stats.get(request, current_caller()))

    async def WatchCluster(
        self, request: admin_service_pb2.WatchClusterRequest, context: Context
    ) -> AsyncIterator[admin_service_pb2.WatchClusterResponse]:
        caller = current_caller()
        who = caller.key or requests.caller(context)
        async with aclosing(self._parts.overview.frames(who)) as frames:
            async for frame in frames:
                try:
                    shown = await self._parts.views.seen_by(caller, frame)
                except StorageUnavailable:
                    continue  # whoever looks sees that the last frame grows old
                yield shown

    async def StartBulkOperation(
        self, request: admin_service_pb2.StartBulkOperationRequest, context: Context
    ) -> admin_service_pb2.StartBulkOperationResponse:
        return await self._parts.bulk.start(request, current_caller())

    async def GetBulkOperation(
        self, request: admin_service_pb2.GetBulkOperationRequest, context: Context
    ) -> admin_service_pb2.GetBulkOperationResponse:
        return await self._parts.bulk.get(request, current_caller())

    async def StopBulkOperation(
        self, request: admin_service_pb2.StopBulkOperationRequest, context: Context
    ) -> admin_service_pb2.StopBulkOperationResponse:
        return await self._parts.bulk.stop(request, current_caller())

    async def ListBulkOperations(
        self, request: admin_service_pb2.ListBulkOperationsRequest, context: Context
    ) -> admin_service_pb2.ListBulkOperationsResponse:
        return await self._parts.bulk.list(request, current_caller())


def _session_before(cursor: str | None) -> SessionId:
    if cursor is None:
        return NEWEST
    try:
        return SessionId(requests.number_id(cursor, "page_token"))
    except InvalidField as error:
        raise PageTokenInvalid(error.message) from error
