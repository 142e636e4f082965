"""`scripts/soak --minutes N [--rate R] [--json FILE] [--picture FILE]`: soak, then judge.

Exit status 1 if a bound was missed, something was lost or recorded twice, or a process ended. SIGINT and
SIGTERM end the load early; it is judged all the same.
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.rounds import say
from benchmarks.soak.picture import picture
from benchmarks.soak.record import Record
from benchmarks.soak.run import Soak
from benchmarks.soak.verdict import Finding, findings, good, table
from benchmarks.stage import Stage


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = _options(arguments)
    say(f"soaking for {options.minutes:g} minutes at about {options.rate:g} tasks/s ...")
    with Stage() as stage:
        soak = Soak(stage, options.minutes, options.rate)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: soak.stop.set())
        record, version = soak.run(), stage.postgres_version
    found = findings(record)
    _write(options.json, json.dumps(_document(record, found, version)) + "\n")
    if len(record.samples) > 1:
        _write(options.picture, picture(record))
    print(table(found), flush=True)
    for complaint in record.complaints:
        print(complaint, file=sys.stderr)
    return 0 if good(record, found) else 1


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        (Path(os.environ.get("SOAK_FROM", ".")) / path).write_text(text, encoding="utf-8")


def _document(record: Record, found: list[Finding], postgres: str) -> dict[str, Any]:
    machine = {"cpus": psutil.cpu_count(), "python": platform.python_version(), "postgres": postgres}
    return {"machine": machine, "findings": [asdict(each) for each in found]} | dict(record.figures())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=120.0, help="how long the load lasts (120)")
    add("--rate", type=float, default=200.0, help="tasks sent in a second, about (200)")
    add("--json", type=Path, metavar="FILE", help="every sample and finding")
    add("--picture", type=Path, metavar="FILE", help="the run as SVG")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
