"""flow: what concurrency keys, rates and schedules cost.

Cycles of tasks with keys of which each has room, with few keys that hold tasks back, with fair keys, and
under a rate that never holds back, take turns with plain ones. Then brokers that have nothing to do: one
without anything, one whose keys all have a task that waits for its seat, one with schedules that are due next
year.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

from benchmarks.broker_cycle import BrokerCycle, More
from benchmarks.cycles import note
from benchmarks.figures import Results
from benchmarks.rounds import alternate, say
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage
from benchmarks.usage import own_seconds

ROOMY_KEYS: Final = 10_000
ROOMY_MOST: Final = 100
"""Tasks of a key that may run at once: more than ever do."""
SCARCE_KEYS: Final = 500
FAIR_KEYS: Final = 1000
SETTLE_S: Final = 2.0
_PLAIN: Final = "flow_plain"
_RATIOS: Final = tuple(
    (name, _PLAIN) for name in ("flow_keyed", "flow_keyed_waiting", "flow_fair", "flow_rated")
)

_TASKS: Final = """
insert into task (id, lane, rank, max_retries, digest, payload, concurrency_key, key_hash, max_per_key)
select encode(substring(uuid_send(uuidv7()) from 1 for 8) || int8send(n | (1::bigint << 63)), 'hex')::uuid,
       lane.id, 5, 0, 1, '', 'key-' || n % {keys}, n % {keys}, 1
from generate_series(0, 2 * {keys} - 1) as n, lane
"""
_KEYS: Final = (
    "insert into queue (namespace, name) values (0, 'bench')",
    "insert into lane (namespace, queue, name, followed, limited) values (0, 'bench', 'handle', true, false)",
    _TASKS,
    # The first of each key holds its seat, and may run tomorrow.
    "insert into delayed"
    " (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)"
    " select id, lane, rank, now() + interval '1 day', 0, 0, 0, 0, false from task order by id limit {keys}",
    "insert into seat (task_id, key, turn, seats_from, turns_from)"
    " select id, key_hash, 1, 0, 0 from task order by id limit {keys}",
    "insert into blocked"
    " (task_id, lane, rank, key, most, turn, run_number, attempt_number, redeliveries, releases, alone)"
    " select id, lane, rank, key_hash, 1, 2, 0, 0, 0, 0, false from task order by id offset {keys}",
    "vacuum analyze",
)
_SCHEDULES: Final = (
    "insert into schedule (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s,"
    " source, next_at, due_at)"
    " select 0, 'schedule-' || n, 'handle', 'bench', '0 0 1 1 *', 'UTC', '', '{{}}', 'latest', 0,"
    " 'operator', now() + interval '1 year', now() + interval '1 year' from generate_series(1, {keys}) as n",
    "vacuum analyze",
)
_BACKENDS: Final = (
    "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
)
IDLE: Final[Mapping[str, Sequence[str]]] = {"nothing": (), "waiting_keys": _KEYS, "schedules": _SCHEDULES}


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note rates, CPU time and ratios of the cycles; CPU time a second of the idle brokers."""
    found = stage.start(
        partial(BrokerCycle, stage, name=_PLAIN),
        partial(BrokerCycle, stage, More(keys=ROOMY_KEYS, most=ROOMY_MOST), name="flow_keyed"),
        partial(BrokerCycle, stage, More(keys=SCARCE_KEYS), name="flow_keyed_waiting"),
        partial(BrokerCycle, stage, More(fair=FAIR_KEYS), name="flow_fair"),
        partial(BrokerCycle, stage, More(rated=True), name="flow_rated"),
    )
    note(
        alternate(found, dict.fromkeys([each.name for each in found], sizes.flow), sizes.rounds),
        _RATIOS,
        results,
    )
    stage.strike()
    _idle(stage, sizes, results)


@dataclass(frozen=True, slots=True)
class _IdleBroker:
    """A broker on a database that was filled, and the server processes that work for it."""

    broker: int
    backends: list[int]

    @classmethod
    def start(cls, stage: Stage, rows: int, statements: Sequence[str]) -> Self:
        database = stage.database()
        stage.run_sql(database, *(each.format(keys=rows) for each in statements))
        broker = stage.broker(database).process.pid
        time.sleep(SETTLE_S)
        return cls(broker, [row["pid"] for row in stage.run_sql(database, _BACKENDS)[0]])

    def seconds(self) -> tuple[float, float]:
        """CPU seconds of the broker and of those processes."""
        return own_seconds(self.broker), sum(map(own_seconds, self.backends))


def _idle(stage: Stage, sizes: Sizes, results: Results) -> None:
    """CPU milliseconds a second of each broker and its server processes, all in the same time."""
    rows = {"nothing": 0, "waiting_keys": sizes.flow_keys, "schedules": sizes.flow_schedules}
    brokers = stage.start(*(partial(_IdleBroker.start, stage, rows[kind], IDLE[kind]) for kind in IDLE))
    began, before = time.monotonic(), [each.seconds() for each in brokers]
    time.sleep(sizes.flow_s)
    took = time.monotonic() - began
    results.add(idle_flow_rows=rows)
    for kind, broker, then in zip(IDLE, brokers, before, strict=True):
        used = [
            round((late - early) / took * 1000, 2) for late, early in zip(broker.seconds(), then, strict=True)
        ]
        say(f"  idle broker, {kind}: {used[0]} ms of CPU a second, its Postgres {used[1]}")
        results.add(idle_flow_ms_per_s={kind: used[0]}, idle_flow_postgres_ms_per_s={kind: used[1]})
