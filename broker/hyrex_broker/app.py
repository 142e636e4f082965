"""The composition root: builds every part of a broker, runs them in one TaskGroup, and stops in order."""

import asyncio
import gc
import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial

from hyrex.runtime import state_report
from hyrex_broker import printed_state
from hyrex_broker.config import BrokerConfig
from hyrex_broker.connected import connect, tell_purged
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.engine.audit import Audit
from hyrex_broker.engine.beside import Carrier
from hyrex_broker.engine.cancels import Cancels
from hyrex_broker.engine.clock import DatabaseClock
from hyrex_broker.engine.cluster.notifications import Notifications
from hyrex_broker.engine.cluster.presence import Presence
from hyrex_broker.engine.cluster.retention import Retention
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.large_payloads import LargePayloads
from hyrex_broker.engine.dispatch.lease_placer import Placer
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.expiry import Expiry
from hyrex_broker.engine.extra_slots import LanesAndRooms
from hyrex_broker.engine.follow import Follower
from hyrex_broker.engine.head_mark import HeadMark
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.limits import Limits
from hyrex_broker.engine.liveness.heartbeats import Heartbeats
from hyrex_broker.engine.liveness.overdue_runs import OverdueRuns
from hyrex_broker.engine.liveness.progress import RunsProgress
from hyrex_broker.engine.liveness.sweeper import Sweeper
from hyrex_broker.engine.nodes import Nodes
from hyrex_broker.engine.outbox import OutboxRelay
from hyrex_broker.engine.outside import OutsideCalls
from hyrex_broker.engine.refused_rows import RefusedRows
from hyrex_broker.engine.reports import RunReports
from hyrex_broker.engine.schedules import ScheduledSubmits
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.submit.handoff import Handoff
from hyrex_broker.engine.submit.intake import Intake
from hyrex_broker.engine.submit.keyed import KeyedSubmits, KeyHasher
from hyrex_broker.engine.submit.rooms import Rooms
from hyrex_broker.engine.sweep import Sweep
from hyrex_broker.engine.watches import Watches
from hyrex_broker.engine.workflows import WorkflowIntake
from hyrex_broker.identity import known_tokens, token_parts
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
from hyrex_broker.steering import build_steering
from hyrex_broker.storage.assign import AssignStore
from hyrex_broker.storage.audit import AuditStore
from hyrex_broker.storage.beside import CarriedStore, OutboxBeside
from hyrex_broker.storage.brokers import BrokerStore, Channel
from hyrex_broker.storage.cancel import CancelStore
from hyrex_broker.storage.depths import DepthStore
from hyrex_broker.storage.expiry import ExpiryStore
from hyrex_broker.storage.follow import FollowStore
from hyrex_broker.storage.keyed import KeyedStore
from hyrex_broker.storage.lanes import LaneStore
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.marks import SCHEDULE_HEAD, MarkStore
from hyrex_broker.storage.migrate import migrate
from hyrex_broker.storage.outbox import OutboxStore
from hyrex_broker.storage.outside import OutsideStore
from hyrex_broker.storage.peers import PeerStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.progress import ProgressStore
from hyrex_broker.storage.promote import PromoteStore
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.replica import ReadFrom, read_from
from hyrex_broker.storage.report import ReportStore
from hyrex_broker.storage.retention import RetentionStore
from hyrex_broker.storage.schedules import ScheduleStore
from hyrex_broker.storage.secrets import SecretStore
from hyrex_broker.storage.sessions import SessionStore
from hyrex_broker.storage.slack import slack_ms
from hyrex_broker.storage.submit import SubmitStore
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
        config.name, config.address, config.version, observes=config.metrics is not None
    )
    engine = _build(config, source, broker_id)
    await engine.directory.refresh()
    await engine.presence.look_for_older()
    return broker_id, engine


def _build(config: BrokerConfig, source: ReadFrom, broker_id: BrokerId) -> Engine:
    database = source.database
    lease = timedelta(seconds=config.granted_lease_s)
    slack = slack_ms(lease)
    session_store, report_store = SessionStore(database, lease), ReportStore(database, slack)
    directory = Directory(LaneStore(database))
    database.counters.heads = directory.families.heads
    directory.needed.append(lambda: database.counters.lanes)
    database.on_closed_lanes = directory.close_all
    sessions = Sessions(session_store, directory, broker_id)
    assigns, submits = AssignStore(database, slack), SubmitStore(database, slack)
    workflows = WorkflowStore(database)
    unread = LargePayloads(assigns, workflows, directory, sessions)
    placer = Placer(unread, report_store, session_store, sessions, broker_id)
    marks = MarkStore(database)
    dispatcher = Dispatcher(assigns, marks, placer, sessions, directory)
    handoff = Handoff(submits.counters, placer, dispatcher, directory)
    promoter = Promoter(PromoteStore(database), marks, dispatcher)
    reports = RunReports(report_store, sessions, dispatcher, promoter)
    watches = Watches(TaskReads(database))
    notifications = Notifications(Channel(database.connector))
    upkeep, clock = RetentionStore(database.connector), DatabaseClock()
    rooms, dispatcher.clock = Rooms(DepthStore(database)), clock.steady_since
    hasher = KeyHasher(SecretStore(database))
    places = LanesAndRooms(directory, rooms, dispatcher, hasher)
    keyed = KeyedSubmits(KeyedStore(database, slack), hasher, handoff)
    nodes = Nodes(workflows, dispatcher, promoter, config.payload_limit_bytes)
    relay = OutboxRelay(OutboxStore(database), places, promoter, config.payload_limit_bytes)
    carrier = _carrier(config, database)
    follows = FollowStore(database)
    cancels, audit = Cancels(CancelStore(database), sessions, dispatcher), Audit(AuditStore(database))
    engine = Engine(
        directory=directory,
        sessions=sessions,
        dispatcher=dispatcher,
        promoter=promoter,
        expiry=Expiry(ExpiryStore(database), marks),
        intake=Intake(submits, handoff, directory, dispatcher, promoter, rooms, keyed),
        reports=reports,
        follow=Follower(follows, nodes, directory, dispatcher, Sweep(follows, nodes, marks, broker_id)),
        nodes=nodes,
        workflows=WorkflowIntake(workflows, submits, places, promoter, hasher),
        heartbeats=Heartbeats(session_store, sessions, reports, broker_id, lease),
        progress=RunsProgress(ProgressStore(database)),
        sweeper=Sweeper(session_store, sessions, reports, clock, lease),
        overdue_runs=OverdueRuns(report_store, sessions, reports, clock),
        cancels=cancels,
        outside=OutsideCalls(OutsideStore(database), CancelStore(database)),
        watches=watches,
        notifications=notifications,
        presence=Presence(BrokerStore(database), broker_id, notifications, lambda: watches.active),
        limits=Limits(directory),
        schedules=ScheduledSubmits(
            ScheduleStore(database), HeadMark(SCHEDULE_HEAD, marks), places, clock, lease
        ),
        relay=relay,
        refused=RefusedRows(database, relay, carrier, config.retention_terms.bad_ends),
        retention=Retention(upkeep, config.retention_terms),
        steering=build_steering(source, broker_id, directory.names, cancels, audit),
        audit=audit,
        tokens=known_tokens(config, database),
        carrier=carrier,
        observers=[source.replica.run] if source.replica is not None else [],
    )
    connect(engine, database)
    return engine


def _carrier(config: BrokerConfig, database: Database) -> Carrier | None:
    if config.outbox_url is None:
        return None
    beside = OutboxBeside(config.outbox_url, config.database_schema, database.counters)
    return Carrier(beside, CarriedStore(database))


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
