"""The end of a storm: the cluster comes to rest, and what its tasks wrote down is read."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from hyrex_broker.storage.verify import verify
from tests.chaos.cluster import Cluster
from tests.chaos.rates import wrong_rates
from tests.chaos.record import Record, digest
from tests.chaos.times import wrong_times
from tests.chaos.workflows import wrong_workflows
from tests.support.postgres import connect

_QUIET_WITHIN_S: Final = 120.0
_BACKLOG: Final = 5
_STALE: Final = "stale reports refused"
_EMPTY: Final = ("ready", "delayed", "lease", "blocked", "seat")
"""Tables in which nothing is left of tasks that have ended."""


def wait_for_calm(cluster: Cluster) -> None:
    """Tend until little waits."""
    _wait_for(cluster, lambda live: live[0] < _BACKLOG)


def finished(cluster: Cluster) -> tuple[Record, list[str]]:
    """Stop the producers, wait until nothing is left; the record, and a line if something was left. Writes
    each process' output beside the journal."""
    unquiet = _wait_for_quiet(cluster)
    for party in cluster.parties:
        (cluster.directory / f"{party.name}.log").write_text(party.all_output)
    return digest(cluster.journal.read()), unquiet


def found_in(cluster: Cluster) -> list[str]:
    """What `hyrex verify` finds wrong in the database, and what is wrong with times."""
    found = asyncio.run(verify(cluster.postgres.url)).findings.values()
    late = asyncio.run(wrong_times(cluster.postgres.url))
    fast = asyncio.run(wrong_rates(cluster.postgres.url))
    torn = asyncio.run(wrong_workflows(cluster.postgres.url))
    return [*[f"verify: {each.count} {each.meaning}: {each.ids}" for each in found], *late, *fast, *torn]


def stale_refused(cluster: Cluster) -> int:
    """How many reports came too late and were refused, by the brokers' own word."""
    lines = (line for party in cluster.parties for line in party.all_output.splitlines() if _STALE in line)
    return sum(int(line.rpartition("count=")[2]) for line in lines)


def _wait_for_quiet(cluster: Cluster) -> list[str]:
    """Stop the producers, then wait until nothing lives and nothing holds a key."""
    for producer in cluster.producers:
        producer.wanted = False
        producer.terminate()
    left = _wait_for(
        cluster, lambda live: all(p.process is None for p in cluster.producers) and not any(live)
    )
    return [f"not quiet after {_QUIET_WITHIN_S} s: {left} rows of {', '.join(_EMPTY)}"] if left else []


def _wait_for(cluster: Cluster, enough: Callable[[list[int]], bool]) -> list[int]:
    """Tend until the numbers of rows of live tasks are right; else what they are."""
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
        return [await connection.fetchval(f"select count(*) from {t}") for t in _EMPTY]
    finally:
        await connection.close()
