"""fairness: how long a tenant's single task waits while another one has very many that wait.

From send() to the first line of a task that holds its place for 20 ms, in milliseconds: alone; with the
tasks of another tenant in front of it, both with fair keys; the same through two brokers, each with a worker
of its own; and with those in front and no fair keys, where it would run after all that came before it: a look
is given up after some seconds.
"""

import time
from functools import partial
from typing import Final

from benchmarks.figures import Results
from benchmarks.latency import percentile
from benchmarks.rounds import say
from benchmarks.sizes import Sizes
from benchmarks.stage import Broker, Stage

PLACES: Final = 20
"""Of each worker: with 20 ms a task, one becomes free each millisecond."""
GAP_S: Final = 0.1
_PATIENCE_S: Final = 10.0
"""How long is waited for a task behind all the others."""
_WITHIN_S: Final = 120.0
_LARGE: Final = "large"
_SMALL: Final = "small"
_FILL: Final = """
with one as materialized (
  select t.*, r.arrival from task t join ready r on r.task_id = t.id
), made as materialized (
  select uuidv7() as id from generate_series(1, {rows})
), stored as (
  insert into task (id, lane, rank, max_retries, digest, payload, content_type)
  select made.id, one.lane, one.rank, 0, 1, one.payload, one.content_type from made, one
)
insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
select made.id, one.lane, one.rank, one.arrival, 0, 0, 0, 0, false from made, one
"""
_WAITS: Final = """
select convert_from(r.result, 'utf8')::bigint / 1e6 from task_run r join task t on t.id = r.task_id
where convert_from(t.payload, 'utf8') like '%"{tenant}"%'
"""


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note how long single tasks wait."""
    kinds = {
        "alone": partial(_System, stage, brokers=1, rows=0),
        "one_broker": partial(_System, stage, brokers=1, rows=sizes.fairness_rows),
        "two_brokers": partial(_System, stage, brokers=2, rows=sizes.fairness_rows),
        "no_fair_key": partial(_System, stage, brokers=1, rows=sizes.fairness_rows, fair=False),
    }
    results.add(fairness_rows=sizes.fairness_rows)
    for name, make in kinds.items():
        waits = make().waits(sizes.fairness_sends if name != "no_fair_key" else 1)
        stage.strike()
        found = (
            {"p50": percentile(waits, 50), "max": max(waits)} if waits else {"more_than": _PATIENCE_S * 1e3}
        )
        say(f"  a single task, {name}: {found} ms")
        results.add(fairness_ms={name: found})


class _System:
    """Brokers on a database in which one tenant has very many tasks, with a worker each."""

    def __init__(self, stage: Stage, *, brokers: int, rows: int, fair: bool = True) -> None:
        self._stage = stage
        self._database = stage.database()
        self._brokers: list[Broker] = [stage.broker(self._database) for _ in range(brokers)]
        self._pacer = stage.actor("pacer", env={"HYREX_BROKER_URL": self._brokers[0].url})
        self._fair = fair
        if rows:
            self._send(_LARGE, 1)
            stage.run_sql(self._database, _FILL.format(rows=rows), "vacuum analyze")
        for broker in self._brokers:
            stage.worker(broker.url, "--async-concurrency", str(PLACES), "--processes", "1")
        time.sleep(2)

    def _send(self, tenant: str, count: int) -> None:
        self._pacer.ask(_WITHIN_S, tenant=tenant, stamps=count, gap_s=GAP_S, fair=self._fair)

    def waits(self, sends: int) -> list[float]:
        """How long each of so many single tasks waited, of those that began in time."""
        self._send(_SMALL, sends)
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            waits = [
                float(row[0]) for row in self._stage.run_sql(self._database, _WAITS.format(tenant=_SMALL))[0]
            ]
            if len(waits) == sends:
                return waits
            time.sleep(0.2)
        return waits
