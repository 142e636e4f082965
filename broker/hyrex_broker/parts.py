"""The parts of a broker that live as long as it does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hyrex_broker.engine.audit import Audit
from hyrex_broker.engine.beside import Carrier
from hyrex_broker.engine.cancels import Cancels
from hyrex_broker.engine.cluster.notifications import Notifications
from hyrex_broker.engine.cluster.presence import Presence
from hyrex_broker.engine.cluster.retention import Retention
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.expiry import Expiry
from hyrex_broker.engine.follow import Follower
from hyrex_broker.engine.known_tokens import KnownTokens
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
from hyrex_broker.engine.submit.intake import Intake
from hyrex_broker.engine.watches import Watches
from hyrex_broker.engine.workflows import WorkflowIntake
from hyrex_broker.steering import Steering


@dataclass(slots=True)
class Engine:
    """Every long-lived part; each has `async def run()` and is cancelled from outside."""

    directory: Directory
    sessions: Sessions
    dispatcher: Dispatcher
    promoter: Promoter
    expiry: Expiry
    intake: Intake
    reports: RunReports
    follow: Follower
    nodes: Nodes
    workflows: WorkflowIntake
    heartbeats: Heartbeats
    progress: RunsProgress
    sweeper: Sweeper
    overdue_runs: OverdueRuns
    cancels: Cancels
    outside: OutsideCalls
    watches: Watches
    notifications: Notifications
    presence: Presence
    retention: Retention
    limits: Limits
    schedules: ScheduledSubmits
    relay: OutboxRelay
    refused: RefusedRows
    steering: Steering
    audit: Audit
    tokens: KnownTokens | None
    """None: this broker asks for none."""
    carrier: Carrier | None = None
    """None: there is no outbox beside the database."""
    observers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """What measures, where somebody wants to know."""

    def loops(self) -> list[Callable[[], Awaitable[None]]]:
        """The functions that run until the broker stops."""
        return [
            self.intake.run,
            self.reports.run,
            self.follow.run,
            self.nodes.run,
            self.dispatcher.run,
            self.promoter.run,
            self.expiry.run,
            self.heartbeats.run,
            self.progress.run,
            self.sweeper.run,
            self.overdue_runs.run,
            self.watches.run,
            self.notifications.run,
            self.presence.run,
            self.retention.run,
            self.limits.run,
            self.schedules.run,
            self.relay.run,
            self.refused.run,
            *self.steering.loops(),
            self.audit.run,
            *([self.tokens.run] if self.tokens is not None else []),
            *([self.carrier.run] if self.carrier is not None else []),
            *self.observers,
        ]
