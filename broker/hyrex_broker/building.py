"""Builds the engine of a broker: every part, with those that it needs."""

from dataclasses import dataclass
from datetime import timedelta

from hyrex_broker.config import BrokerConfig
from hyrex_broker.connected import connect
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
from hyrex_broker.identity import known_tokens
from hyrex_broker.parts import Engine
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
from hyrex_broker.storage.marks import SCHEDULE_HEAD, MarkStore
from hyrex_broker.storage.outbox import OutboxStore
from hyrex_broker.storage.outside import OutsideStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.progress import ProgressStore
from hyrex_broker.storage.promote import PromoteStore
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.replica import ReadFrom
from hyrex_broker.storage.report import ReportStore
from hyrex_broker.storage.retention import RetentionStore
from hyrex_broker.storage.schedules import ScheduleStore
from hyrex_broker.storage.secrets import SecretStore
from hyrex_broker.storage.sessions import SessionStore
from hyrex_broker.storage.slack import slack_ms
from hyrex_broker.storage.submit import SubmitStore
from hyrex_broker.storage.workflows import WorkflowStore


@dataclass(frozen=True, slots=True)
class _Movers:
    """What moves tasks to workers, and brings their ends; the other parts build on it."""

    directory: Directory
    sessions: Sessions
    session_store: SessionStore
    report_store: ReportStore
    submits: SubmitStore
    workflows: WorkflowStore
    marks: MarkStore
    dispatcher: Dispatcher
    handoff: Handoff
    places: LanesAndRooms
    promoter: Promoter
    reports: RunReports


def build_engine(config: BrokerConfig, source: ReadFrom, broker_id: BrokerId) -> Engine:
    """Build all parts and connect them; none of them runs yet."""
    database, lease = source.database, timedelta(seconds=config.granted_lease_s)
    slack = slack_ms(lease)
    movers = _movers(database, broker_id, lease, slack)
    directory, sessions, dispatcher = movers.directory, movers.sessions, movers.dispatcher
    promoter, reports, marks = movers.promoter, movers.reports, movers.marks
    notifications, watches = Notifications(Channel(database.connector)), Watches(TaskReads(database))
    places, clock = movers.places, DatabaseClock()
    dispatcher.clock = clock.steady_since
    keyed = KeyedSubmits(KeyedStore(database, slack), places.keys, movers.handoff)
    nodes = Nodes(movers.workflows, dispatcher, promoter, config.payload_limit_bytes)
    relay = OutboxRelay(OutboxStore(database), places, promoter, config.payload_limit_bytes)
    carrier, follows = _carrier(config, database), FollowStore(database)
    cancels, audit = Cancels(CancelStore(database), sessions, dispatcher), Audit(AuditStore(database))
    refused = RefusedRows(database, relay, carrier, config.retention_terms.bad_ends)
    engine = Engine(
        directory=directory,
        sessions=sessions,
        dispatcher=dispatcher,
        promoter=promoter,
        expiry=Expiry(ExpiryStore(database), marks),
        intake=Intake(movers.submits, movers.handoff, directory, dispatcher, promoter, places.rooms, keyed),
        reports=reports,
        follow=Follower(follows, nodes, directory, dispatcher, Sweep(follows, nodes, marks, broker_id)),
        nodes=nodes,
        workflows=WorkflowIntake(movers.workflows, movers.submits, places, promoter, places.keys),
        heartbeats=Heartbeats(movers.session_store, sessions, reports, broker_id, lease),
        progress=RunsProgress(ProgressStore(database)),
        sweeper=Sweeper(movers.session_store, sessions, reports, clock, lease),
        overdue_runs=OverdueRuns(movers.report_store, sessions, reports, clock),
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
        refused=refused,
        retention=Retention(RetentionStore(database.connector), config.retention_terms),
        steering=build_steering(source, broker_id, directory.names, cancels, audit, refused),
        audit=audit,
        tokens=known_tokens(config, database),
        carrier=carrier,
        observers=[source.replica.run] if source.replica is not None else [],
    )
    connect(engine, database)
    return engine


def _movers(database: Database, broker_id: BrokerId, lease: timedelta, slack: int) -> _Movers:
    session_store, report_store = SessionStore(database, lease), ReportStore(database, slack)
    directory = Directory(LaneStore(database))
    database.counters.heads = directory.families.heads
    directory.needed.append(lambda: database.counters.lanes)
    database.on_closed_lanes = directory.close_all
    sessions = Sessions(session_store, directory, broker_id)
    assigns, submits = AssignStore(database, slack), SubmitStore(database, slack)
    workflows, marks = WorkflowStore(database), MarkStore(database)
    unread = LargePayloads(assigns, workflows, directory, sessions)
    placer = Placer(unread, report_store, session_store, sessions, broker_id)
    dispatcher = Dispatcher(assigns, marks, placer, sessions, directory)
    promoter = Promoter(PromoteStore(database), marks, dispatcher)
    hasher = KeyHasher(SecretStore(database))
    return _Movers(
        directory=directory,
        sessions=sessions,
        session_store=session_store,
        report_store=report_store,
        submits=submits,
        workflows=workflows,
        marks=marks,
        dispatcher=dispatcher,
        handoff=Handoff(submits.counters, placer, dispatcher, directory),
        places=LanesAndRooms(directory, Rooms(DepthStore(database)), dispatcher, hasher),
        promoter=promoter,
        reports=RunReports(report_store, sessions, dispatcher, promoter),
    )


def _carrier(config: BrokerConfig, database: Database) -> Carrier | None:
    if config.outbox_url is None:
        return None
    beside = OutboxBeside(config.outbox_url, config.database_schema, database.counters)
    return Carrier(beside, CarriedStore(database))
