"""`scripts/chaos --seconds N --seed S --json FILE`: run the storm, then judge."""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hyrex_broker.storage.verify import verify
from tests.chaos.cluster import Cluster, Size
from tests.chaos.record import Record, digest
from tests.chaos.storm import WEIGHTS, Storm
from tests.chaos.verdict import Verdict, executions_by_end, flow_times, judge, read_stored, recovery_times
from tests.support.postgres import connect

_QUIET_WITHIN_S: Final = 120.0
_BACKLOG: Final = 5
_STALE: Final = "stale reports refused"


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is 0 only if every promise was kept."""
    options = _parser().parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="hyrex-chaos-"))
    size = Size(lease_s=options.lease_duration, rate=options.rate)
    only = frozenset(options.only.split(",")) if options.only else frozenset[str]()
    verdict = run(size, options.seed, options.seconds, options.gap, directory, only)
    text = json.dumps(verdict.figures(), indent=2)
    if options.json:
        Path(options.json).write_text(text + "\n")
    print(text)
    for complaint in verdict.complaints:
        print(complaint, file=sys.stderr)
    if verdict.good:
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
        _wait_for(cluster, lambda live: live[0] < _BACKLOG)
        storm.probe(probes)
        unquiet = _wait_for_quiet(cluster)
        record = digest(cluster.journal.read())
        verdict = judge(record, asyncio.run(read_stored(cluster.postgres.url)), size.lease_s)
        verdict.kills = dict(sorted(storm.kills.items()))
        outputs = [
            party.output + (party.process.output if party.process else "") for party in cluster.parties
        ]
        verdict.stale_refused = sum(_stale(output) for output in outputs)
        verdict.complaints += [crash for party in cluster.parties for crash in party.crashes]
        verdict.complaints += unquiet
        verified = asyncio.run(verify(cluster.postgres.url))
        verdict.complaints += [
            f"verify: {each.count} {each.meaning}: {each.ids}" for each in verified.findings.values()
        ]
        for party, output in zip(cluster.parties, outputs, strict=True):
            (directory / f"{party.name}.log").write_text(output)
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


def _stale(output: str) -> int:
    return sum(int(line.rpartition("count=")[2]) for line in output.splitlines() if _STALE in line)


def _wait_for_quiet(cluster: Cluster) -> list[str]:
    """Stop the producers, then wait until nothing is ready, delayed or leased."""
    for producer in cluster.producers:
        producer.wanted = False
        producer.terminate()
    left = _wait_for(
        cluster, lambda live: all(p.process is None for p in cluster.producers) and not any(live)
    )
    return [f"not quiet after {_QUIET_WITHIN_S} s: {left} ready, delayed, leased"] if left else []


def _wait_for(cluster: Cluster, enough: Callable[[list[int]], bool]) -> list[int]:
    """Tend until the numbers of ready, delayed and leased tasks are right; else what they are."""
    deadline = time.monotonic() + _QUIET_WITHIN_S
    live: list[int] = []
    while time.monotonic() < deadline:
        cluster.tend()
        live = asyncio.run(_live(cluster.postgres.url))
        if enough(live):
            return []
        time.sleep(0.1)
    return live


async def _live(url: str) -> list[int]:
    connection = await connect(url)
    try:
        return [await connection.fetchval(f"select count(*) from {t}") for t in ("ready", "delayed", "lease")]
    finally:
        await connection.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description="Kill, stop and cut a cluster under load.")
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long the storm lasts (60)")
    add("--seed", type=int, default=1, help="what happens when, and what is sent (1)")
    add("--json", metavar="FILE", help="where the verdict is written")
    add("--lease-duration", type=float, default=5.0, metavar="SECONDS", help="of the brokers (5)")
    add("--rate", type=float, default=10.0, help="tasks per second of each producer (10)")
    add("--only", metavar="KINDS", help=f"some of {','.join(WEIGHTS)}")
    add("--gap", type=float, default=2.0, help="longest time between disturbances in seconds (2)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
