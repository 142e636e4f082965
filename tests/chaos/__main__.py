"""`scripts/chaos --seconds N --seed S --json FILE`: run the storm, then judge. With `--ha` on a pair of
servers; with `--ha --table` each fault of the pair once, as a table."""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos import ha
from tests.chaos.cluster import Cluster, Size
from tests.chaos.finish import finished, found_in, stale_refused, wait_for_calm
from tests.chaos.record import Record
from tests.chaos.recovery import executions_by_end, flow_times, recovery_times
from tests.chaos.storm import WEIGHTS, Storm
from tests.chaos.verdict import Verdict, judge, read_stored


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is 0 only if every promise was kept."""
    options = _parser().parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="hyrex-chaos-"))
    if options.table:
        rows, complaints = ha.table(options.seed, directory)
        print(ha.as_markdown(rows))
        return _ended(complaints, directory)
    size = Size(lease_s=options.lease_duration or (10.0 if options.ha else 5.0), rate=options.rate)
    only = frozenset(options.only.split(",")) if options.only else frozenset[str]()
    given = (size, options.seed, options.seconds, options.gap, directory, only)
    if options.ha:
        found = ha.run_ha(*given)
        return _reported(found.figures(), found.verdict, options.json, directory)
    verdict = run(*given)
    return _reported(verdict.figures(), verdict, options.json, directory)


def _reported(figures: dict[str, Any], verdict: Verdict, file: str | None, directory: Path) -> int:
    text = json.dumps(figures, indent=2)
    if file:
        Path(file).write_text(text + "\n")
    print(text)
    assert verdict.good or verdict.complaints
    return _ended(verdict.complaints, directory)


def _ended(complaints: list[str], directory: Path) -> int:
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if not complaints:
        shutil.rmtree(directory)
        return 0
    print(f"journal and output are kept in {directory}", file=sys.stderr)
    return 1


def run(
    size: Size,
    seed: int,
    seconds: float,
    gap_s: float,
    directory: Path,
    only: frozenset[str] = frozenset(),
    probes: int = 6,
) -> Verdict:
    """One cluster, one storm, one verdict."""
    cluster = Cluster(size, seed, directory)
    try:
        cluster.start()
        storm = Storm(cluster, seed, gap_s, only)
        storm.run(seconds)
        wait_for_calm(cluster)
        storm.probe(probes)
        record, unquiet = finished(cluster)
        verdict = judge(record, asyncio.run(read_stored(cluster.postgres.url)), size.lease_s)
        verdict.kills = dict(sorted(storm.kills.items()))
        verdict.stale_refused = stale_refused(cluster)
        verdict.complaints += [crash for party in cluster.parties for crash in party.crashes]
        verdict.complaints += unquiet
        verdict.complaints += found_in(cluster)
        _tell(record)
        return verdict
    finally:
        cluster.close()


def _tell(record: Record) -> None:
    """For people: how fast what recovered."""
    print(f"executions: {dict(executions_by_end(record))}")
    for kind in ("stream_kill", "child_kill", "worker_kill", "worker_stop"):
        times = sorted(recovery_times(record, (kind,)))
        if times:
            median, longest = times[len(times) // 2], times[-1]
            print(f"{kind}: {len(times)} runs again after {median:.2f} s (median), {longest:.2f} s (longest)")
    times = sorted(flow_times(record))
    if times:
        print(f"postgres: back {len(times)} times; tasks sent then ran after {times[len(times) // 2]:.2f} s"
              f" (median), {times[-1]:.2f} s (longest)")  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description="Kill, stop and cut a cluster under load.")
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long the storm lasts (60)")
    add("--seed", type=int, default=1, help="what happens when, and what is sent (1)")
    add("--json", metavar="FILE", help="where the verdict is written")
    add("--lease-duration", type=float, metavar="SECONDS", help="of the brokers (5; with --ha 10)")
    add("--ha", action="store_true", help="on a primary and a synchronous standby, with a witness")
    add("--table", action="store_true", help="with --ha: each fault once, by replication and lease")
    add("--rate", type=float, default=10.0, help="tasks per second of each producer (10)")
    add("--only", metavar="KINDS", help=f"some of {','.join(WEIGHTS | ha.HA_WEIGHTS)}")
    add("--gap", type=float, default=2.0, help="longest time between disturbances in seconds (2)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
