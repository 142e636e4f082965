"""send_p50_ms/p99: one caller's send() on an idle system; latency_p50_ms/p99: from send() to the first
line of the task at 1,000 tasks a second; idle_latency_p50_ms: the same with one task at a time.

The task itself measures: its argument is the monotonic clock at the send, its result the difference.
"""

from collections.abc import Sequence

from benchmarks.figures import Results
from benchmarks.sdk_cycle import SdkSystem, idle
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage, run

THREADS = 16
GAP_S = 0.02
WARM_UP = 50


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note the percentiles."""
    system = SdkSystem(stage)
    pacer = stage.actor("pacer", env={"HYREX_BROKER_URL": system.broker.url})
    patience = 60 + 10 * sizes.latency_s
    pacer.ask(patience, sends=WARM_UP)
    sends = pacer.ask(patience, sends=sizes.sends)["ms"]
    results.add(send_p50_ms=percentile(sends, 50), send_p99_ms=percentile(sends, 99))

    since = _now(stage, system)
    pacer.ask(patience, stamps=sizes.idle_sends, gap_s=GAP_S)
    alone = _latencies(stage, system, since)
    results.add(idle_latency_p50_ms=percentile(alone, 50), idle_latency_p99_ms=percentile(alone, 99))

    since = _now(stage, system)
    reached = pacer.ask(patience, rate=sizes.latency_rate, seconds=sizes.latency_s, threads=THREADS)["per_s"]
    loaded = _latencies(stage, system, since)
    results.add(latency_p50_ms=percentile(loaded, 50), latency_p99_ms=percentile(loaded, 99))
    results.add(latency_rate_per_s=round(reached))


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return round(ordered[max(-(-len(ordered) * percent // 100) - 1, 0)], 2)


def _now(stage: Stage, system: SdkSystem) -> str:
    return str(stage.run_sql(system.database, "select clock_timestamp()::text")[0][0][0])


def _latencies(stage: Stage, system: SdkSystem, since: str) -> list[float]:
    """Milliseconds from send to start, of every stamp task stored since then."""
    run(idle(system.database))
    rows = stage.run_sql(
        system.database,
        "select convert_from(r.result, 'utf8')::bigint / 1e6 from task_run r join task t on t.id = r.task_id"
        f" join lane l on l.id = t.lane where l.name = 'stamp' and t.submitted_at >= '{since}'",
    )[0]
    return [float(row[0]) for row in rows]
