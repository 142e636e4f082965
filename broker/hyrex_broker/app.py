"""The composition root: builds every part of a broker, runs them in one TaskGroup, and stops in order."""

import asyncio
import gc
import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial

from hyrex.runtime import state_report
from hyrex_broker import printed_state
from hyrex_broker.building import build_engine
from hyrex_broker.config import BrokerConfig
from hyrex_broker.connected import tell_purged
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.identity import token_parts
from hyrex_broker.lasting import Enduring
from hyrex_broker.loops import unless
from hyrex_broker.observed import observed
from hyrex_broker.parts import Engine
from hyrex_broker.service.admin import AdminServicer
from hyrex_broker.service.certificates import BindError
from hyrex_broker.service.complete_calls import CompleteCalls
from hyrex_broker.service.listening import Servicers
from hyrex_broker.service.queues import QueueServicer
from hyrex_broker.service.refused import RefusedParts
from hyrex_broker.service.schedules import ScheduleParts, ScheduleServicer
from hyrex_broker.service.submit import SubmitChecker
from hyrex_broker.service.tasks import TaskParts, TaskServicer
from hyrex_broker.service.work import WorkEngine, WorkerServicer
from hyrex_broker.service.workflows import WorkflowParts, WorkflowServicer
from hyrex_broker.serving import Served, serve
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.migrate import migrate
from hyrex_broker.storage.peers import PeerStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.replica import ReadFrom, read_from
from hyrex_broker.storage.schedules import ScheduleStore
from hyrex_broker.storage.workflows import WorkflowStore

log = logging.getLogger(__name__)


async def run_broker(config: BrokerConfig) -> None:
    """Run a broker until SIGTERM, SIGINT, a DrainBroker call or cancellation.

    Raises StorageUnavailable, SchemaOutOfRange or BindError if it cannot start.
    """
    # Lasting objects are made at the start, and those made per task have no reference cycles. With the
    # default thresholds garbage collections took 7% of the time (py-spy, 500 tasks a frame).
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    state_report.install(f"broker {config.name}", lambda: ["not started yet"])
    lasting = Enduring()
    await _run_on(lasting, config)
    while await lasting.may_begin_anew():
        lasting.timeline.begin_anew()
        try:
            await _run_on(lasting, config.model_copy(update={"port": lasting.port}))
        except (StorageUnavailable, BindError) as error:
            log.warning("the broker could not begin anew; it tries again", extra={"error": str(error)})


async def _run_on(lasting: Enduring, config: BrokerConfig) -> None:
    """Run a broker whose every part is made anew, until it is told to stop or its timeline is over. Raises as
    `run_broker`."""
    database = Database(config.database_url, schema=config.database_schema)
    database.availability.synchronous = lasting.synchronous
    database.connector.checks.append(lasting.timeline.check)
    source = read_from(config.read_database_url, database, lambda: lasting.timeline.cluster)
    try:
        await unless(lasting.stop, lasting.look_around(database))
        if (begun := await unless(lasting.stop, _begun(config, source))) is None:
            return
        broker_id, engine = begun
        engine.presence.on_lost = partial(lasting.timeline.end, "its own row in the database is lost")
        engine.presence.on_unserved = partial(_stop_unserved, lasting.stop)
        engine.presence.on_unknown = partial(_stop_lacking, lasting.stop)
        _print_when_asked(config, database, engine)
        served = Served(config, source, broker_id, engine, _work_engine(config, engine))
        await lasting.tell_lost(BrokerStore(database))
        with observed(config, source, engine, broker_id, lambda: lasting.unreplicated):
            await serve(lasting, served, _servicers(served, lasting.stop))
        lasting.leave(database, broker_id, engine.presence.renewals)
    finally:
        await source.close()


def _stop_unserved(stop: asyncio.Event, serves_from: int, knows: int) -> None:
    """Drain and stop: what this broker would write, the others may not understand (rule 21)."""
    if not stop.is_set():
        log.error(
            "the database's schema does not serve this broker any more: it hands its workers over and ends;"
            " upgrade it",
            extra={"serves_from": serves_from, "knows": knows},
        )
        stop.set()


def _stop_lacking(stop: asyncio.Event, features: Sequence[str]) -> None:
    """Drain and stop: others began to use them while this one was silent."""
    if not stop.is_set():
        log.error(
            "the database has used features that this broker does not know: it hands its workers over and"
            " ends; upgrade it",
            extra={"features": list(features)},
        )
        stop.set()


async def _begun(config: BrokerConfig, source: ReadFrom) -> tuple[BrokerId, Engine]:
    """Read what a broker needs to serve; a migration may take minutes."""
    database = source.database
    await migrate(database.connector, config.database_schema)
    await database.open()
    broker_id = await BrokerStore(database).register(
        config.name,
        config.address,
        config.version,
        observes=config.metrics is not None,
        carries=config.outbox_url is not None,
    )
    engine = build_engine(config, source, broker_id)
    await engine.directory.refresh()
    await engine.presence.look_for_older()
    return broker_id, engine


def _print_when_asked(config: BrokerConfig, database: Database, engine: Engine) -> None:
    parts = {
        "intake": engine.intake.sizes,
        "reports": engine.reports.sizes,
        "follow": engine.follow.sizes,
        "dispatcher": engine.dispatcher.sizes,
        "heartbeats": engine.heartbeats.sizes,
        "watches": engine.watches.sizes,
        "notifications": engine.notifications.sizes,
    }
    if engine.tokens is not None:
        parts["tokens"] = engine.tokens.sizes

    def state() -> Iterable[str]:
        pools = {f"database pool {name}": dict(sizes).copy for name, sizes in database.sizes().items()}
        return printed_state.lines(parts | pools, engine.sessions.by_id)

    state_report.install(f"broker {config.name}", state)


def _work_engine(config: BrokerConfig, engine: Engine) -> WorkEngine:
    return WorkEngine(
        engine.sessions,
        engine.reports,
        engine.heartbeats,
        engine.progress,
        config.name,
        timedelta(seconds=config.granted_lease_s),
        timedelta(seconds=config.heartbeat_interval_s),
        config.payload_limit_bytes,
    )


def _servicers(served: Served, stop: asyncio.Event) -> Servicers:
    config, database, engine = served.config, served.database, served.engine
    reads, audit = TaskReads(database), engine.audit
    parts = TaskParts(
        reads=reads,
        lists=served.source.of(TaskLists),
        watches=engine.watches,
        cancels=engine.cancels,
        completions=CompleteCalls(engine.outside, reads, audit, config.payload_limit_bytes),
        submits=(
            submits := SubmitChecker(engine.intake, config.payload_limit_bytes, database.availability, reads)
        ),
        looks=audit,
        pages=(pages := engine.steering.pages),
        leaving=served.leaving,
    )
    queues = QueueServicer(
        served.source.of(QueueStore),
        engine.directory,
        partial(tell_purged, engine),
        audit,
        pages,
        config.retention_terms,
    )
    schedules = ScheduleServicer(
        ScheduleParts(
            ScheduleStore(database), engine.schedules, reads, audit, pages, config.payload_limit_bytes
        )
    )
    workflows = WorkflowParts(engine.workflows, submits, WorkflowStore(database), reads, audit)
    submits.gate = queues.gate = schedules.gate = engine.presence.gate
    return Servicers(
        tasks=TaskServicer(parts),
        workers=WorkerServicer(served.work),
        queues=queues,
        schedules=schedules,
        workflows=WorkflowServicer(workflows),
        admin=AdminServicer(
            served.source.of(PeerStore),
            engine.sessions.drain,
            stop.set,
            engine.steering.parts,
            token_parts(database, audit, pages, engine.tokens),
            RefusedParts(engine.refused, audit, pages, config.payload_limit_bytes),
        ),
    )
