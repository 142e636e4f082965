"""Runs measurements: `python -m benchmarks [--quick] [--json FILE] [--peers] [--only NAME ...]`.

Progress goes to stderr, the table to stdout. Exit status 1 if a measurement failed, whatever the
targets say; 2 for a wrong command line.
"""

import argparse
import json
import os
import platform
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks import (
    backlog,
    cycles,
    fairness,
    flow,
    guarded,
    held,
    latency,
    memory,
    pinned,
    stored,
    workflow,
)
from benchmarks.figures import Results
from benchmarks.peers import cycle as peers
from benchmarks.rounds import say
from benchmarks.sizes import FULL, QUICK, TINY, Sizes
from benchmarks.stage import Stage
from benchmarks.table import table

Measure = Callable[[Stage, Sizes, Results], None]
MEASUREMENTS: dict[str, Measure] = {
    "latency": latency.measure,
    "backlog": backlog.measure,
    "pinned": pinned.measure,
    "memory": memory.measure,
    "guarded": guarded.measure,
    "stored": stored.measure,
    "flow": flow.measure,
    "held": held.measure,
    "fairness": fairness.measure,
    "workflow": workflow.measure,
    "peers": peers.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    names = [*cycles.NAMES, *MEASUREMENTS]
    options = _options(names, arguments)
    wanted = options.only or [name for name in names if name != "peers"]
    if options.peers:
        wanted = [*wanted, "peers"]
    sizes = TINY if options.tiny else QUICK if options.quick else FULL
    results = Results()
    with Stage() as stage:
        results.add(machine=_machine(stage, sizes))
        _measure(stage, sizes, wanted, results)
    print(table(results), flush=True)
    if options.json:
        path = Path(os.environ.get("BENCH_FROM", ".")) / options.json
        path.write_text(json.dumps(_document(results), indent=2) + "\n", encoding="utf-8")
    for name, text in results.failures.items():
        say(f"\n{name} FAILED\n{text}")
    return 1 if results.failures else 0


def _measure(stage: Stage, sizes: Sizes, wanted: Sequence[str], results: Results) -> None:
    contestants = [name for name in cycles.NAMES if name in wanted]
    steps: dict[str, Callable[[], None]] = {}
    if contestants:
        steps["cycles"] = lambda: cycles.measure(stage, sizes, contestants, results)
    for name, measure in MEASUREMENTS.items():
        if name in wanted:
            steps[name] = lambda measure=measure: measure(stage, sizes, results)  # type: ignore[misc]
    for name, step in steps.items():
        began = time.monotonic()
        say(f"{name} ...")
        try:
            step()
        except Exception:
            results.failures[name] = traceback.format_exc()
            say(f"  {name} FAILED")
        finally:
            stage.strike()
        say(f"  {name}: {time.monotonic() - began:.1f} s")


def _options(names: Sequence[str], arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, under a minute")
    add("--tiny", action="store_true", help="only see that everything runs")
    add("--peers", action="store_true", help="other task queues beside Hyrex")
    add("--json", type=Path, metavar="FILE", help="write every figure there")
    add("--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {', '.join(names)}")
    return parser.parse_args(arguments)


def _machine(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": psutil.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": f"{platform.python_version()} ({_build()})",
        "postgres": stage.postgres_version,
        "sizes": {FULL: "full", QUICK: "quick", TINY: "tiny"}[sizes],
    }


def _build() -> str:
    """How this Python was built: without profile-guided optimisation all is slower by a tenth."""
    built_with = sysconfig.get_config_var("CONFIG_ARGS") or ""
    parts = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}
    return ", ".join(f"{name} {'yes' if flag in built_with else 'no'}" for name, flag in parts.items())


def _document(results: Results) -> dict[str, Any]:
    targets = {
        verdict.target: {"value": verdict.value, "bound": verdict.bound, "met": verdict.met}
        for verdict in results.verdicts()
    }
    return results.figures | {
        "targets": targets,
        "skipped": results.skipped,
        "failed": sorted(results.failures),
    }


if __name__ == "__main__":
    sys.exit(main())
