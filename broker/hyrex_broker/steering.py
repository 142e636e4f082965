"""Composes what operators see and steer by: the overview, statistics and bulk operations."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from hyrex.v1 import admin_service_pb2
from hyrex_broker.domain.model import BrokerId, LaneId
from hyrex_broker.domain.rights import ANYONE, Caller
from hyrex_broker.engine.audit import Audit
from hyrex_broker.engine.bulk import BulkOperations, Follows
from hyrex_broker.engine.cluster.stats import CountedSteps, Stats
from hyrex_broker.engine.overview import Overview
from hyrex_broker.service.admin import AdminParts
from hyrex_broker.service.bulk import BulkRpcs
from hyrex_broker.service.cluster import ClusterFrames, ClusterStores, ClusterViews, OwnRates, RefusedBeside
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.service.stats import StatReads
from hyrex_broker.service.why import Reasons
from hyrex_broker.storage.bulk import BulkStore
from hyrex_broker.storage.cluster import ClusterStore
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.peers import PeerStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.replica import ReadFrom
from hyrex_broker.storage.secrets import SecretStore
from hyrex_broker.storage.stats import StatStore


@dataclass(frozen=True, slots=True)
class Steering:
    """The parts with loops, and what AdminService answers with."""

    stats: Stats
    bulk: BulkOperations
    overview: Overview[admin_service_pb2.WatchClusterResponse]
    parts: AdminParts
    pages: PageTokens
    """One for all lists: it reads the database's secret once."""

    def loops(self) -> list[Callable[[], Awaitable[None]]]:
        """What runs until the broker stops."""
        return [self.stats.run, self.bulk.run, self.overview.run]


def build_steering(
    source: ReadFrom,
    broker: BrokerId,
    names: Mapping[LaneId, tuple[str, str]],
    cancels: Follows,
    audit: Audit,
    refused: RefusedBeside,
) -> Steering:
    """Build them; `names` are those of the lanes that this broker knows."""
    database = source.database
    stat_store, bulk_store, lists = StatStore(database), BulkStore(database), TaskLists(database)
    pages = PageTokens(SecretStore(database))
    own = OwnRates(CountedSteps(database.counters, names))
    frames = source.of(lambda where: ClusterFrames(_stores(where), broker, own, refused))

    async def compute(caller: Caller = ANYONE) -> admin_service_pb2.WatchClusterResponse:
        return await frames.ask(lambda each: each.compute(caller))

    overview = Overview(compute)
    bulk = BulkOperations(bulk_store, lists, cancels, broker)
    parts = AdminParts(
        reasons=Reasons(TaskReads(database)),
        stats=source.of(lambda where: StatReads(StatStore(where))),
        overview=overview,
        views=ClusterViews(compute),
        bulk=BulkRpcs(bulk_store, lists, audit, pages, bulk.look),
    )
    stats = Stats(stat_store, broker, CountedSteps(database.counters, names))
    return Steering(stats, bulk, overview, parts, pages)


def _stores(database: Database) -> ClusterStores:
    return ClusterStores(
        ClusterStore(database), QueueStore(database), PeerStore(database), StatStore(database)
    )
