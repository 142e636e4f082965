"""peer_cycle_per_s: the same count of the same tasks through each peer, in turns with Hyrex's sdk_cycle.

Timed like sdk_cycle: from the first send to the end of the last task, its workers running all the time. A
peer counts with its best round, Hyrex with its median: where Postgres has analysed the empty table of
a queue, the plans of some fall to a twentieth of their rate, and how soon it does that is chance.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from benchmarks.figures import Results
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.environment import Unavailable, fill, prepare
from benchmarks.processes import Process, ProcessFailed
from benchmarks.rounds import Contestant, Round, alternate, best_rate, cpu, rate, say
from benchmarks.sdk_cycle import SdkCycle, SdkSystem
from benchmarks.sizes import Sizes
from benchmarks.stage import Redis, Stage
from benchmarks.usage import Cpu, tree

WITHIN_S = 1800.0


class PeerCycle:
    """A peer's producer and workers, on a database or a Redis of their own."""

    def __init__(self, stage: Stage, peer: Peer, redis: Redis | None) -> None:
        home = prepare(peer)
        env = {
            "BENCH_DATABASE_URL": stage.database(migrated=False),
            "BENCH_REDIS_URL": redis.url if redis else "",
        }
        self.name = peer.name
        self._redis = [redis.process.pid] if redis and "redis-server" in peer.needs else []
        self._stage = stage
        self._producer = stage.keep(Process(peer.name, fill(peer.producer, home), env))
        self._producer.wait_for("^actor ready")
        self._workers = [
            stage.keep(Process(f"{peer.name} worker", fill(peer.worker, home), env))
            for _ in range(peer.workers)
        ]

    def processes(self) -> dict[str, list[int]]:
        """By name."""
        workers = [pid for worker in self._workers for pid in tree(worker.pid)]
        return {"workers": workers, "producer": [self._producer.pid], "redis": self._redis}

    def round(self, tasks: int) -> Round:
        """Send and run so many tasks."""
        used = Cpu(self._stage.postmaster, self.processes())
        answer: dict[str, Any] = self._producer.ask(WITHIN_S, count=tasks)
        return Round.of(tasks, answer["ended"] - answer["began"], used.seconds())


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note the rates of all peers that can be had, and Hyrex's over the best one's."""
    contestants: list[Contestant] = [SdkCycle(stage, SdkSystem(stage))]
    redis = stage.redis()
    for peer in PEERS:
        try:
            found = PeerCycle(stage, peer, redis)
            found.round(max(sizes.peer_tasks // 20, 1))
            contestants.append(found)
        except Unavailable as reason:
            results.skipped[peer.name] = str(reason)
            say(f"  skipped {peer.name}: {reason}")
        except ProcessFailed as error:
            results.failures[peer.name] = str(error)
            say(f"  {peer.name} FAILED")
    rounds = alternate(
        contestants, dict.fromkeys([c.name for c in contestants], sizes.peer_tasks), sizes.peer_rounds
    )
    hyrex = rounds["sdk_cycle"]
    peers = {name: found for name, found in rounds.items() if name != "sdk_cycle"}
    results.add(
        peer_cycle_per_s={name: round(best_rate(found)) for name, found in peers.items()},
        sdk_cycle_beside_peers_per_s=round(rate(hyrex)),
        cpu_us_per_task={f"peer {name}": cpu(found) for name, found in peers.items()},
    )
    with suppress(ValueError):
        best = max(peers, key=lambda name: best_rate(peers[name]))
        results.add(best_peer=best, ratios={"sdk_cycle/best_peer": _over(hyrex, peers[best])})
    if "celery" in peers:
        results.add(ratios={"sdk_cycle/celery": _over(hyrex, peers["celery"])})


def _over(hyrex: Sequence[Round], peer: Sequence[Round]) -> float:
    return round(rate(hyrex) / best_rate(peer), 3)
