"""broker_rss_mb idle, with a backlog, and with 1,000 idle workers; what those workers cost; worker_rss_mb.

Statements are counted by the database's committed transactions: on its hot path the broker has one
statement in each.
"""

import time

from benchmarks.figures import Results
from benchmarks.sizes import Sizes
from benchmarks.stage import Broker, Stage
from benchmarks.usage import own_seconds, rss_mb, tree

FEW = 10
SETTLE_S = 2.0
WITHIN_S = 600.0
WORKER_PROCESSES = 2
COMMITS = "select xact_commit from pg_stat_database where datname = current_database()"


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note memory in the three states, and the cost of idle workers."""
    database = stage.database()
    broker = stage.broker(database)
    time.sleep(SETTLE_S)
    results.add(broker_rss_mb={"idle": _rss(broker)})
    _worker(stage, broker, results)
    _idle_workers(stage, sizes, broker, database, results)
    _backlog(stage, sizes, results)


def _worker(stage: Stage, broker: Broker, results: Results) -> None:
    worker = stage.worker(broker.url, "-p", str(WORKER_PROCESSES))
    time.sleep(SETTLE_S)
    pids = tree(worker.pid)
    results.add(worker_rss_mb=round(rss_mb(pids), 1))
    results.add(worker_rss_detail_mb={f"process_{n}": round(rss_mb([pid]), 1) for n, pid in enumerate(pids)})
    worker.terminate()


def _idle_workers(stage: Stage, sizes: Sizes, broker: Broker, database: str, results: Results) -> None:
    costs = {}
    for count in (min(FEW, sizes.memory_workers), sizes.memory_workers):
        crowd = stage.actor("crowd", broker.address)
        crowd.ask(WITHIN_S, workers=count)
        # A backend that has become idle counts its commits up to ten seconds late.
        time.sleep(sizes.memory_settle_s)
        costs[count] = _cost(stage, sizes, broker, database)
        if count == sizes.memory_workers:
            results.add(broker_rss_mb={"workers_1000": _rss(broker)})
        crowd.ask(WITHIN_S, workers=0)
        crowd.terminate()
    (_, few), (cpu, many) = costs[min(FEW, sizes.memory_workers)], costs[sizes.memory_workers]
    results.add(
        idle_workers=sizes.memory_workers,
        idle_workers_cpu_percent=round(100 * cpu, 2),
        idle_workers_statements_per_s={"few": round(few, 1), "many": round(many, 1)},
        ratios={"idle_workers_statements": round(many / few, 2)},
    )


def _cost(stage: Stage, sizes: Sizes, broker: Broker, database: str) -> tuple[float, float]:
    """CPU seconds of the broker and statements, each per second."""
    began, cpu, commits = time.monotonic(), own_seconds(broker.process.pid), _commits(stage, database)
    time.sleep(sizes.memory_s)
    took = time.monotonic() - began
    used, made = own_seconds(broker.process.pid) - cpu, _commits(stage, database) - commits
    return used / took, made / took


def _backlog(stage: Stage, sizes: Sizes, results: Results) -> None:
    """A broker that finds a backlog, with a worker that holds all it can and reports nothing."""
    database = stage.database()
    stage.actor("assigner", database).ask(WITHIN_S, fill=sizes.memory_backlog)
    broker = stage.broker(database)
    crowd = stage.actor("crowd", broker.address)
    crowd.ask(WITHIN_S, workers=1, capacity=1000)
    time.sleep(SETTLE_S)
    results.add(broker_rss_mb={"backlog_1m": _rss(broker)}, backlog_in_memory_test=sizes.memory_backlog)


def _rss(broker: Broker) -> float:
    return round(rss_mb([broker.process.pid]), 1)


def _commits(stage: Stage, database: str) -> int:
    return int(stage.run_sql(database, COMMITS)[0][0][0])
