"""How much each measurement does: in full, quick (a minute in all), or tiny (only to see that it runs)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts are tasks, times are in seconds."""

    rounds: int = 7
    cycle: int = 100_000
    single_cycle: int = 20_000
    guard_rounds: int = 7
    sends: int = 2_000
    latency_s: float = 20.0
    latency_rate: float = 1_000.0
    idle_sends: int = 200
    backlog: int = 10_000_000
    backlog_assigns: int = 100
    pinned_s: float = 600.0
    pinned_rate: float = 5_000.0
    pinned_turn_s: float = 10.0
    memory_backlog: int = 1_000_000
    memory_workers: int = 1_000
    memory_s: float = 20.0
    memory_settle_s: float = 12.0
    stored: int = 1_000_000
    flow: int = 50_000
    flow_keys: int = 1_000_000
    flow_schedules: int = 100_000
    flow_s: float = 20.0
    held: int = 100_000
    fairness_rows: int = 1_000_000
    fairness_sends: int = 50
    workflow: int = 20_000
    fan_out: int = 10_000
    peer_tasks: int = 20_000
    peer_rounds: int = 3


FULL = Sizes()
QUICK = Sizes(
    rounds=2, cycle=20_000, single_cycle=2_000, guard_rounds=5, sends=300, latency_s=3, idle_sends=30,
    backlog=200_000, backlog_assigns=30, pinned_s=6, pinned_rate=4_000, pinned_turn_s=1,
    memory_backlog=100_000, memory_s=4,
    stored=60_000, flow=10_000, flow_keys=50_000, flow_schedules=50_000, flow_s=10, held=100_000,
    fairness_rows=50_000, fairness_sends=20, workflow=8_000, fan_out=10_000, peer_tasks=4_000, peer_rounds=1,
)  # fmt: skip
TINY = Sizes(
    rounds=1, cycle=1_000, single_cycle=200, guard_rounds=1,
    sends=20, latency_s=0.5, latency_rate=100, idle_sends=3,
    backlog=20_000, backlog_assigns=3, pinned_s=1, pinned_rate=1_000, pinned_turn_s=0.5,
    memory_backlog=2_000, memory_workers=20, memory_s=1, memory_settle_s=1,
    stored=2_000, flow=600, flow_keys=200, flow_schedules=200, flow_s=0.5, held=400,
    fairness_rows=300, fairness_sends=3, workflow=1_000, fan_out=200, peer_tasks=200, peer_rounds=1,
)  # fmt: skip
