"""The storm: at random moments something is killed, stopped, cut off or restarted, and comes back later.

Every disturbance is written to the journal with its victim, its beginning and, once it is known, its end:
the verdict asks whether one of them explains a repeated execution.
"""

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from tests.chaos.cluster import Cluster, Party
from tests.chaos.record import Execution, digest
from tests.support.trees import signal_all

_LONGEST_GAP_S: Final = 2.0
_TICK_S: Final = 0.05
_CALM_S: Final = 2.5
WEIGHTS: Final = {
    "broker_kill": 4,
    "broker_restart": 3,
    "broker_stop": 3,
    "stream_kill": 5,
    "child_kill": 8,
    "worker_kill": 2,
    "worker_stop": 3,
    "worker_restart": 2,
    "link_reset": 4,
    "link_silence": 3,
    "database_link_silence": 2,
    "postgres_kill": 2,
    "postgres_restart": 2,
}


class Storm:
    """Chooses victims; `run(seconds)` returns when it is over and everything is healed."""

    weights: Mapping[str, int] = WEIGHTS

    def __init__(
        self, cluster: Cluster, seed: int, gap_s: float = _LONGEST_GAP_S, only: frozenset[str] = frozenset()
    ) -> None:
        self._cluster = cluster
        self._random = random.Random(seed)
        self._gap_s = gap_s
        self._only = only
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._busy: set[str] = set()
        self.kills: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Disturb for so long, then heal everything."""
        until = time.monotonic() + seconds
        next_at = time.monotonic() + self._random.uniform(0, self._gap_s)
        while time.monotonic() < until:
            if time.monotonic() >= next_at:
                self._disturb()
                next_at = time.monotonic() + self._random.uniform(0, self._gap_s)
            self._tick()
        while self._later or not self._is_whole():
            self._tick()

    def _is_whole(self) -> bool:
        """Return True if nothing repairs itself any more."""
        return True

    def probe(self, kills: int) -> None:
        """After the storm: kill one stream process or child that runs something, let all recover, repeat.
        Recovery from one fault is only seen where nothing else is disturbed."""
        for number in range(kills):
            self.calm(_CALM_S)
            running = [
                each for each in digest(self._cluster.journal.read()).running() if each.age_s < _CALM_S
            ]
            if running:
                self._kill_under(self._random.choice(running), "stream_kill" if number % 2 else "child_kill")
        self.calm(_CALM_S)

    def calm(self, seconds: float) -> None:
        """Disturb nothing for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._tick()

    def _kill_under(self, execution: Execution, kind: str) -> None:
        for party in self._cluster.workers:
            parts = party.below(
                "hyrex.worker.stream.process" if kind == "stream_kill" else "hyrex.worker.child.main"
            )
            if execution.worker == party.name:
                victims = [part for part in parts if kind == "stream_kill" or part.pid == execution.pid]
                for victim in victims[:1]:
                    self._note(kind, party.name, pid=victim.pid)
                    signal_all([victim], signal.SIGKILL)

    def _tick(self) -> None:
        self._cluster.tend()
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        time.sleep(_TICK_S)

    def _disturb(self) -> None:
        kinds = {
            kind: weight for kind, weight in self.weights.items() if not self._only or kind in self._only
        }
        (kind,) = self._random.choices(list(kinds), list(kinds.values()))
        self._act(kind)

    def _act(self, kind: str) -> None:
        lease_s, pick = self._cluster.size.lease_s, self._random.choice
        match kind:
            case "broker_kill" | "broker_restart" | "broker_stop" | "database_link_silence":
                self._disturb_broker(kind)
            case "stream_kill":
                self._kill_part(kind, "hyrex.worker.stream.process")
            case "child_kill":
                self._kill_part(kind, "hyrex.worker.child.main")
            case "worker_kill":
                self._kill_worker(pick(self._cluster.workers))
            case "worker_stop":
                self._stop(kind, pick(self._cluster.workers), 2.5 * lease_s)
            case "worker_restart":
                self._restart_worker(pick(self._cluster.workers))
            case "link_reset":
                self._reset_worker_link()
            case "link_silence":
                self._silence_worker_link()
            case "postgres_kill":
                self._kill_postgres()
            case _:
                self._restart_postgres()

    def _note(self, kind: str, victim: str, **fields: object) -> None:
        self.kills[kind] += 1
        self._cluster.journal.note("disturbed", kind=kind, victim=victim, **fields)

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), act))

    def _for(self, what: str, seconds: float, undo: Callable[[], None]) -> None:
        """`what` is disturbed for so long; nothing else happens to it meanwhile."""
        self._busy.add(what)

        def over() -> None:
            undo()
            self._busy.discard(what)
            self._cluster.journal.note("healed", victim=what)

        self._in(seconds, over)

    # Processes

    def _disturb_broker(self, kind: str) -> None:
        """Some broker is always left in peace: that all are away at once is no fault of theirs to bear."""
        at_peace = [n for n in range(len(self._cluster.brokers)) if self._is_at_peace(n)]
        if len(at_peace) < 2:
            return
        number = self._random.choice(at_peace)
        party = self._cluster.brokers[number]
        match kind:
            case "broker_kill":
                self._kill_broker(party)
            case "broker_restart":
                self._restart_broker(party)
            case "broker_stop":
                self._stop(kind, party, 1.5 * self._cluster.size.lease_s)
            case _:
                self._silence_database_link(number)

    def _is_at_peace(self, number: int) -> bool:
        party = self._cluster.brokers[number]
        disturbed = party.name in self._busy or f"database-link-{number}" in self._busy
        return not disturbed and party.leave_by is None and party.is_ready("broker ready")

    def _kill_broker(self, party: Party) -> None:
        if party.process is not None and party.name not in self._busy:
            self._note("broker_kill", party.name)
            party.kill(self._random.uniform(0.1, 3))

    def _restart_broker(self, party: Party) -> None:
        if party.process is not None and party.name not in self._busy and party.leave_by is None:
            self._note("broker_restart", party.name)
            party.terminate()

    def _stop(self, kind: str, party: Party, longest_s: float) -> None:
        tree = party.tree()
        if not tree or party.name in self._busy:
            return
        seconds = self._random.uniform(0.2, longest_s)
        self._note(kind, party.name, seconds=seconds)
        signal_all(tree, signal.SIGSTOP)
        self._for(party.name, seconds, lambda: signal_all(tree, signal.SIGCONT))

    def _kill_part(self, kind: str, module: str) -> None:
        party = self._random.choice(self._cluster.workers)
        parts = party.below(module)
        if parts and party.name not in self._busy:
            part = self._random.choice(parts)
            self._note(kind, party.name, pid=part.pid)
            signal_all([part], signal.SIGKILL)

    def _kill_worker(self, party: Party) -> None:
        if party.process is not None and party.name not in self._busy:
            self._note("worker_kill", party.name)
            party.kill(self._random.uniform(0.1, 3))

    def _restart_worker(self, party: Party) -> None:
        if party.process is not None and party.name not in self._busy and party.leave_by is None:
            self._note("worker_restart", party.name)
            party.terminate()

    # Cables

    def _reset_worker_link(self) -> None:
        number = self._random.randrange(len(self._cluster.workers))
        self._note("link_reset", f"worker-{number}")
        for link in self._cluster.worker_links[number]:
            link.reset()

    def _silence_worker_link(self) -> None:
        number = self._random.randrange(len(self._cluster.workers))
        name, links = f"link-{number}", self._cluster.worker_links[number]
        if name in self._busy:
            return
        seconds = self._random.uniform(0.2, 2 * self._cluster.size.lease_s)
        self._note("link_silence", f"worker-{number}", seconds=seconds)
        for link in links:
            link.silence()

        def heal() -> None:
            for link in links:
                link.heal()

        self._for(name, seconds, heal)

    def _silence_database_link(self, number: int) -> None:
        name, link = f"database-link-{number}", self._cluster.database_links[number]
        if name in self._busy:
            return
        seconds = self._random.uniform(0.2, 2 * self._cluster.size.lease_s)
        self._note("database_link_silence", f"broker-{number}", seconds=seconds)
        link.silence()
        self._for(name, seconds, link.heal)

    # Postgres

    def _kill_postgres(self) -> None:
        if "postgres" not in self._busy:
            seconds = self._random.choice([0.0, 0.5, self._cluster.size.lease_s])
            self._note("postgres_kill", "postgres", seconds=seconds)
            self._cluster.postgres.kill()
            self._for("postgres", seconds, self._cluster.postgres.start)

    def _restart_postgres(self) -> None:
        if "postgres" not in self._busy:
            self._note("postgres_restart", "postgres")
            self._cluster.postgres.restart()
            self._cluster.journal.note("healed", victim="postgres")
