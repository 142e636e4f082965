"""`scripts/chaos --ha`: the storm on a pair of servers with a witness. `--table`: each of the pair's faults
once, for each kind of replication and length of lease."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tests.chaos.cluster import Cluster, Size
from tests.chaos.failovers import Failover, failovers
from tests.chaos.finish import finished, found_in, wait_for_calm
from tests.chaos.pair import changing_pair
from tests.chaos.record import Record
from tests.chaos.storm import WEIGHTS, Storm
from tests.chaos.verdict import Stored, Verdict, judge, read_stored
from tests.chaos.witness import Fault, Witness

OF_THE_PAIR: Final = {
    "primary_killed": 3,
    "primary_stopped": 3,
    "primary_cut_off": 3,
    "switchover": 2,
    "standby_lost": 2,
    "primary_paused": 1,
    "primary_crashed": 2,
    "primary_restarted": 1,
}
HA_WEIGHTS: Final = {kind: n for kind, n in WEIGHTS.items() if not kind.startswith("postgres")} | {
    kind: 3 * n for kind, n in OF_THE_PAIR.items()
}
EACH_ONCE: Final = (
    Fault("switchover"),
    Fault("primary_killed"),
    Fault("primary_killed", fenced=False),
    Fault("primary_stopped", fenced=False),
    Fault("primary_cut_off", fenced=False),
    Fault("primary_crashed", seconds=0.5),
    Fault("standby_lost", seconds=6.0),
)
_CALM_S: Final = 4.0
_LEASES_S: Final = (5.0, 15.0)
_RETURNING: Final = ("primary_killed", "primary_stopped", "primary_cut_off")
_LONGEST_S: Final = {"standby_lost": 6.0, "primary_paused": 1.5, "primary_crashed": 1.0}


class HaStorm(Storm):
    """A storm whose database is a pair with a witness."""

    weights = HA_WEIGHTS

    def __init__(
        self, cluster: Cluster, witness: Witness, seed: int, gap_s: float, only: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(cluster, seed, gap_s, only)
        self._witness = witness
        self._faults = random.Random(seed)

    def _act(self, kind: str) -> None:
        if kind not in OF_THE_PAIR:
            super()._act(kind)
        elif not self._witness.is_busy:
            fenced = kind not in _RETURNING or self._faults.random() < 0.5
            self.disturb_pair(Fault(kind, fenced, self._faults.uniform(0, _LONGEST_S.get(kind, 0.0))))

    def _is_whole(self) -> bool:
        return not self._witness.is_busy

    def disturb_pair(self, fault: Fault) -> None:
        """Have the witness carry out a fault."""
        self.kills[fault.kind] += 1
        self._witness.disturb(fault)

    def each(self, faults: Sequence[Fault], calm_s: float) -> None:
        """One fault after the other; the next when the pair is whole and all has gone on for a while."""
        for fault in faults:
            self.calm(calm_s)
            self.disturb_pair(fault)
            while not self._is_whole():
                self._tick()
        self.calm(calm_s)


@dataclass
class HaVerdict:
    """The verdict, and what became of each fault of the pair."""

    verdict: Verdict
    failovers: list[Failover]
    record: Record
    stored: dict[str, Stored]
    restarts_needed: int = 0
    """Processes that ended without having been ended."""
    lost: set[str] = field(default_factory=set)

    def figures(self) -> dict[str, Any]:
        """What is written to the file."""
        return self.verdict.figures() | {
            "restarts_needed": self.restarts_needed,
            "failovers": [each.figures() for each in self.failovers],
        }


@contextmanager
def _ha_cluster(
    size: Size, seed: int, directory: Path, *, synchronous: bool
) -> Iterator[tuple[Cluster, Witness]]:
    with changing_pair(synchronous=synchronous) as pair:
        cluster = Cluster(size, seed, directory, pair)
        witness = Witness(pair, cluster)
        try:
            cluster.start()
            witness.start()
            yield cluster, witness
        finally:
            if witness.is_alive():
                witness.close()
            cluster.close()


def run_ha(
    size: Size, seed: int, seconds: float, gap_s: float, directory: Path, only: frozenset[str] = frozenset()
) -> HaVerdict:
    """One cluster on a synchronous pair, one storm, one verdict."""
    with _ha_cluster(size, seed, directory, synchronous=True) as (cluster, witness):
        storm = HaStorm(cluster, witness, seed, gap_s, only)
        storm.run(seconds)
        return _judged(cluster, witness, storm)


def run_each(
    size: Size,
    seed: int,
    directory: Path,
    *,
    synchronous: bool,
    faults: Sequence[Fault] = EACH_ONCE,
    calm_s: float = _CALM_S,
) -> HaVerdict:
    """One cluster, each fault once in peace."""
    with _ha_cluster(size, seed, directory, synchronous=synchronous) as (cluster, witness):
        storm = HaStorm(cluster, witness, seed, gap_s=1.0)
        storm.each(faults, calm_s)
        return _judged(cluster, witness, storm)


def _judged(cluster: Cluster, witness: Witness, storm: Storm) -> HaVerdict:
    wait_for_calm(cluster)
    record, unquiet = finished(cluster)
    found = list(failovers(record))
    stored = asyncio.run(read_stored(cluster.postgres.url))
    verdict = judge(record, stored, cluster.size.lease_s)
    verdict.kills = dict(sorted(storm.kills.items()))
    crashes = [crash for party in cluster.parties for crash in party.crashes]
    verdict.complaints += [*crashes, *unquiet, *found_in(cluster)]
    if witness.failure is not None:
        verdict.complaints.append(f"the witness failed: {witness.failure!r}")
    return HaVerdict(verdict, found, record, stored, len(crashes))


# The table


HEAD: Final = (
    "fault", "replication", "lease", "away", "sends", "runs", "lost", "twice", "restarts",
)  # fmt: skip


def table(seed: int, directory: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    """Its rows, and what is wrong."""
    rows: list[tuple[str, ...]] = []
    complaints: list[str] = []
    for synchronous in (True, False):
        for lease_s in _LEASES_S:
            place = directory / f"{'synchronous' if synchronous else 'asynchronous'}-{lease_s:g}"
            place.mkdir()
            size = Size(brokers=2, workers=2, producers=2, lease_s=lease_s)
            found = run_each(size, seed, place, synchronous=synchronous)
            rows += _rows(found, lease_s, synchronous=synchronous)
            if synchronous:
                complaints += found.verdict.complaints
    return rows, complaints


def _rows(found: HaVerdict, lease_s: float, *, synchronous: bool) -> Iterator[tuple[str, ...]]:
    starts = [each.began - _CALM_S for each in found.failovers]
    for each, begins, ends in zip(found.failovers, starts, [*starts[1:], float("inf")], strict=True):
        lost = sum(begins <= at < ends and task not in found.stored for task, at in found.record.sent.items())
        twice = sum(
            first.how != "failed" and begins <= again.began < ends
            for executions in found.record.executions.values()
            for first, again in pairwise(executions)
        )
        yield (
            each.fault, "synchronous" if synchronous else "asynchronous", f"{lease_s:g} s",
            f"{each.away_s:.1f} s", _said(each.sends_s), _said(each.runs_s), str(lost), str(twice),
            str(found.restarts_needed),
        )  # fmt: skip


def _said(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as it stands in docs/operating/high-availability.md."""
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
