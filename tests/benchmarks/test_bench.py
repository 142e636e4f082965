"""Every measurement of scripts/bench runs, at a size that says nothing about speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "sql_cycle_per_s",
    "broker_cycle_per_s",
    "broker_cycle_no_handoff_per_s",
    "broker_cycle_headers_per_s",
    "sdk_cycle_per_s",
    "sdk_single_cycle_per_s",
    "send_p50_ms",
    "send_p99_ms",
    "latency_p50_ms",
    "latency_p99_ms",
    "idle_latency_p50_ms",
    "backlog_ratio",
    "pinned_ratio",
    "broker_rss_mb",
    "worker_rss_mb",
    "bytes_per_task",
    "flow_plain_per_s",
    "flow_keyed_per_s",
    "flow_keyed_waiting_per_s",
    "flow_fair_per_s",
    "flow_rated_per_s",
    "idle_flow_ms_per_s",
    "workflow_plain_per_s",
    "workflow_100_per_s",
    "workflow_1000_per_s",
    "cpu_us_per_task",
    "ratios",
    "cpu_ratios",
    *(
        f"{cycle}_{guard}_per_s"
        for cycle in ("sdk_cycle", "sdk_single_cycle")
        for guard in ("nothing", "tokens", "metrics", "tls")
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_measurement_runs_and_prints_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--tiny", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())
    assert figures.keys() >= KEYS
    assert set(figures["broker_rss_mb"]) == {"idle", "backlog_1m", "workers_1000"}
    assert all(key in done.stdout for key in KEYS - {"cpu_us_per_task"})
    assert "sdk_cycle / broker_cycle" in done.stdout
    assert "sdk_cycle with tokens / without" in done.stdout


@pytest.mark.timeout(120)
def test_the_cost_of_a_frame_is_printed() -> None:
    command = [sys.executable, "-m", "benchmarks.frames", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a frame of a stream") == 2
    assert "32 threads" in done.stdout
