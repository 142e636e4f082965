"""What a broker shows to Prometheus: made at each scrape of what the parts count and hold anyway.

docs/reference/metrics.md lists the names; tests compare it with a scrape.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from prometheus_client.core import Metric

from hyrex.runtime.histogram import LAG_BOUNDS_US, Histogram
from hyrex.runtime.metric_families import counter, gauge, histogram
from hyrex_broker.domain.counters import MOST_LANES, Acknowledged, Counters
from hyrex_broker.domain.model import LaneId, Outcome, SessionId
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.storage.depths import WaitingTasks
from hyrex_broker.storage.replica import Replica

_LAG_EVERY_S: Final = 0.25
_OTHER: Final = "other"
_LANE: Final = ("queue", "task")
Value = TypeVar("Value")


class LoopLag:
    """How late the event loop is: each answer of this broker waits about as long."""

    def __init__(self) -> None:
        self.late = Histogram(LAG_BOUNDS_US)

    async def run(self) -> None:
        """Measure four times a second until cancelled."""
        while True:
            due = time.monotonic() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self.late.add(max(0, int((time.monotonic() - due) * 1_000_000)))


@dataclass(frozen=True, slots=True)
class BrokerMetrics:
    """Reads the parts of one broker in the thread of a scrape: it copies whatever the loop may change."""

    name: str
    version: str
    counters: Counters
    lanes: Mapping[LaneId, tuple[str, str]]
    sessions: Mapping[SessionId, ServedSession]
    refused: Mapping[str, int]
    pools: Callable[[], Mapping[str, Mapping[str, int]]]
    database_answers: Callable[[], bool]
    replication: Callable[[], bool | None]
    unreplicated: Callable[[], Acknowledged]
    depths: Callable[[], Mapping[str, WaitingTasks] | None]
    refused_rows: Mapping[str, int] = field(default_factory=dict)
    replica: Replica | None = None
    lag: LoopLag = field(default_factory=LoopLag)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield gauge(
            "hyrex_broker_info", "The broker, by its labels.", ("name", "version"),
            [((self.name, self.version), 1)],
        )  # fmt: skip
        yield from self._of_tasks()
        yield from self._of_queues()
        yield from self._of_broker()
        yield from self._of_database()
        if self.replica is not None:
            yield from _of_replica(self.replica)

    def _of_tasks(self) -> Iterator[Metric]:
        counts, by_outcome = self.counters, (*_LANE, "outcome")
        yield counter("hyrex_tasks_submitted", "Tasks stored.", _LANE, self._laned(counts.submitted))
        yield counter(
            "hyrex_tasks_handed_off", "Tasks that were stored and given to a worker in one statement.", _LANE,
            self._laned(counts.handed_off),
        )  # fmt: skip
        yield counter(
            "hyrex_tasks_ended", "Tasks that ended for good.", by_outcome, self._ended(counts.ended)
        )
        yield counter("hyrex_runs_ended", "Runs that ended.", by_outcome, self._ended(counts.runs))
        yield histogram(
            "hyrex_queue_wait_seconds", "From when a run could begin until a worker had it.", _LANE,
            self._laned(counts.queue_wait),
        )  # fmt: skip
        yield histogram(
            "hyrex_run_seconds", "How long runs took in their workers.", _LANE, self._laned(counts.run_time)
        )
        yield counter(
            "hyrex_limit_waits", "How often a limit left runs waiting.", _LANE,
            self._laned(counts.limit_waits),
        )  # fmt: skip

        yield counter(
            "hyrex_outbox_held", "Rows of the outbox of which no task could be made at once.", ("why",),
            [((why,), count) for why, count in dict(counts.held_back).items()],
        )  # fmt: skip
        yield gauge(
            "hyrex_outbox_refused", "Refused rows that an outbox has (counted to a cap).", ("database",),
            [((database,), count) for database, count in dict(self.refused_rows).items()],
        )  # fmt: skip

    def _of_queues(self) -> Iterator[Metric]:
        depths = self.depths()
        known = _first({} if depths is None else dict(depths))
        yield gauge(
            "hyrex_depths_elected", "1 on the broker that reads for all how much waits.", (),
            [((), depths is not None)],
        )  # fmt: skip
        yield gauge(
            "hyrex_queue_ready", "Tasks that could run now (counted to a cap).", ("queue",),
            [((queue,), depth.ready) for queue, depth in known],
        )  # fmt: skip
        yield gauge(
            "hyrex_queue_delayed", "Tasks that run later (counted to a cap).", ("queue",),
            [((queue,), depth.delayed) for queue, depth in known],
        )  # fmt: skip
        yield gauge(
            "hyrex_queue_blocked", "Tasks that wait for their concurrency key (counted to a cap).",
            ("queue",),
            [((queue,), depth.blocked) for queue, depth in known],
        )  # fmt: skip
        oldest: dict[str, float] = {}
        for queue, depth in known:
            oldest[queue] = max(oldest.get(queue, 0.0), depth.oldest_ready_s)
        yield gauge(
            "hyrex_queue_oldest_ready_seconds", "How long the first ready task has waited.", ("queue",),
            [((queue,), age_s) for queue, age_s in oldest.items()],
        )  # fmt: skip

    def _of_broker(self) -> Iterator[Metric]:
        sessions = list(self.sessions.values())
        yield gauge("hyrex_sessions", "Worker sessions on this broker.", (), [((), len(sessions))])
        yield gauge(
            "hyrex_leases",
            "Leases of these sessions.",
            (),
            [((), sum(len(each.leases) for each in sessions))],
        )
        yield gauge(
            "hyrex_slots", "Runs that these sessions execute at once.", (),
            [((), sum(sum(dict(each.slots or each.capacity).values()) for each in sessions))],
        )  # fmt: skip
        yield counter(
            "hyrex_refusals", "Calls and items refused.", ("reason",),
            [((reason,), count) for reason, count in dict(self.refused).items()],
        )  # fmt: skip
        yield histogram(
            "hyrex_batch_items", "Items stored together in one statement.", ("batch",),
            [((name,), found) for name, found in dict(self.counters.merges).items()], unit=1,
        )  # fmt: skip
        yield histogram("hyrex_loop_lag_seconds", "How late the event loop is.", (), [((), self.lag.late)])

    def _of_database(self) -> Iterator[Metric]:
        yield gauge(
            "hyrex_database_up", "1 while Postgres answers this broker.", (), [((), self.database_answers())]
        )
        synchronous = self.replication()
        yield gauge(
            "hyrex_replication_synchronous", "1 while a commit waits for a standby.", (),
            [] if synchronous is None else [((), synchronous)],
        )  # fmt: skip
        unreplicated = self.unreplicated()
        yield counter(
            "hyrex_failover_unreplicated", "What was acknowledged and a failover may have lost, at most.",
            ("what",), [(("send",), unreplicated.sends), (("end",), unreplicated.ends)],
        )  # fmt: skip
        yield histogram(
            "hyrex_statement_seconds", "From a statement to its answer.", ("statement",),
            [((name,), found) for name, found in dict(self.counters.statements).items()],
        )  # fmt: skip
        yield gauge(
            "hyrex_database_connections", "Connections of each pool; waiting: who waits for one.",
            ("pool", "state"),
            [
                ((pool, state), count)
                for pool, sizes in self.pools().items()
                for state, count in _connection_states(sizes)
            ],
        )  # fmt: skip

    def _laned(self, found: Mapping[LaneId, Value]) -> list[tuple[tuple[str, str], Value]]:
        return [(self.lanes.get(lane, (_OTHER, _OTHER)), value) for lane, value in dict(found).items()]

    def _ended(
        self, found: Mapping[tuple[LaneId, Outcome], int]
    ) -> Iterable[tuple[tuple[str, str, str], int]]:
        for (lane, outcome), count in dict(found).items():
            queue, task = self.lanes.get(lane, (_OTHER, _OTHER))
            yield (queue, task, outcome.name.lower()), count


def _of_replica(replica: Replica) -> Iterator[Metric]:
    served = replica.served
    yield gauge("hyrex_replica_up", "1 while lists are read from the replica.", (), [((), replica.usable)])
    yield gauge(
        "hyrex_replica_lag_seconds", "For how long at least the replica has lacked something.", (),
        [] if replica.lag_s is None else [((), replica.lag_s)],
    )  # fmt: skip
    yield counter(
        "hyrex_replica_reads", "Lists and the like, by the server that answered.", ("server",),
        [(("replica",), served.replica), (("primary",), served.primary)],
    )  # fmt: skip


def _connection_states(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    free = sizes["free"]
    return [("busy", sizes["connections"] - free), ("free", free), ("waiting", sizes["waiting"])]


def _first(depths: Mapping[str, WaitingTasks]) -> list[tuple[str, WaitingTasks]]:
    """By queue, those with the most first; beyond MOST_LANES they are one."""
    ordered = sorted(depths.items(), key=lambda each: -each[1].ready)
    return [(queue if n < MOST_LANES else _OTHER, depth) for n, (queue, depth) in enumerate(ordered)]
