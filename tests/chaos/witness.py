"""The witness: watches over the primary, promotes the standby when the primary is gone, and makes whoever was
replaced a standby again. It does to the pair what it is asked to, one fault after the other, in a thread.

In the journal `postgres` is disturbed from the fault until a server accepts writes; the repair follows.
"""

import asyncio
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import asyncpg

from hyrex_broker.embedded import EmbeddedPostgres
from tests.chaos.cluster import Cluster
from tests.chaos.journal import Journal
from tests.chaos.pair import ChangingPair, kill, signal_server
from tests.support.postgres import run_apart

_LOOK_EVERY_S: Final = 0.3
_ANSWER_WITHIN_S: Final = 1.0
_MISSES: Final = 2
_UNFENCED_S: Final = 3.0
"""How long an old primary that came back may serve whoever asks it."""
_PATIENCE_S: Final = 2.0
"""How long commits wait for a standby that is lost, before they wait for none."""
_LAG_S: Final = 1.0
"""What the standby lacks at a failover where replication is asynchronous."""


LOSSY: Final = frozenset({"primary_killed", "primary_stopped", "primary_cut_off"})
"""After these the standby is all that is left."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the pair. `fenced`: an old primary that comes back serves nobody."""

    kind: str
    fenced: bool = True
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """For people and reports."""
        words = self.kind.replace("_", " ")
        return words if self.fenced else f"{words}, comes back unfenced"


class Witness(threading.Thread):
    """Carries faults out until it is closed. What it cannot do is in `failure`."""

    def __init__(self, pair: ChangingPair, cluster: Cluster) -> None:
        super().__init__(name="witness", daemon=True)
        self._pair = pair
        self._cluster = cluster
        self._journal: Journal = cluster.journal
        self._faults: queue.SimpleQueue[Fault | None] = queue.SimpleQueue()
        self._acts: Mapping[str, Callable[[Fault], None]] = MappingProxyType(
            {
                "primary_killed": self._killed,
                "primary_stopped": self._stopped,
                "primary_cut_off": self._cut_off,
                "switchover": self._switchover,
                "standby_lost": self._standby_lost,
                "primary_paused": self._paused,
                "primary_crashed": self._crashed,
                "primary_restarted": self._restarted,
            }
        )
        self.failure: Exception | None = None
        self.is_busy = False

    def disturb(self, fault: Fault) -> None:
        """Have a fault carried out; it is busy until the pair is whole again."""
        self.is_busy = True
        self._faults.put(fault)

    def close(self) -> None:
        """End when what is under way is done."""
        self._faults.put(None)
        self.join()

    def run(self) -> None:
        """Carry out one fault after the other."""
        while (fault := self._faults.get()) is not None:
            try:
                self._acts[fault.kind](fault)
            except Exception as error:
                self.failure = error
            self.is_busy = False

    # Faults

    def _killed(self, fault: Fault) -> None:
        self._begin(fault)
        old = self._pair.primary
        kill(old)
        self._fail_over()
        if not fault.fenced:
            old.start()
        self._repair(fault)

    def _stopped(self, fault: Fault) -> None:
        self._begin(fault)
        old = self._pair.primary
        signal_server(old, signal.SIGSTOP)
        self._fail_over()
        if not fault.fenced:
            signal_server(old, signal.SIGCONT)
        self._repair(fault)

    def _cut_off(self, fault: Fault) -> None:
        """The machine of the primary reaches nobody, and works."""
        self._begin(fault)
        number = self._pair.number_of(self._pair.primary)
        for cables in self._cluster.database_links:
            cables.each[number].silence()
        time.sleep(_MISSES * _ANSWER_WITHIN_S)
        self._promote()
        if fault.fenced:
            kill(self._pair.standby)
        for cables in self._cluster.database_links:
            cables.each[number].heal()
        self._repair(fault)

    def _switchover(self, fault: Fault) -> None:
        """The primary is shut down, which waits until the standby has all."""
        self._begin(fault)
        self._pair.primary._end()
        self._promote()
        self._repair(fault)

    def _standby_lost(self, fault: Fault) -> None:
        """Commits wait for it; after a while they wait for none, until it is back."""
        self._begin(fault)
        kill(self._pair.standby)
        time.sleep(min(fault.seconds, _PATIENCE_S))
        gave_up = fault.seconds > _PATIENCE_S and self._pair.synchronous
        if gave_up:
            self._pair.make_asynchronous()
            self._over()
            time.sleep(fault.seconds - _PATIENCE_S)
        self._pair.standby.start()
        if not gave_up:
            self._over()
        if self._pair.synchronous:
            self._pair.make_synchronous()

    def _paused(self, fault: Fault) -> None:
        """Too short for the witness."""
        self._begin(fault)
        signal_server(self._pair.primary, signal.SIGSTOP)
        time.sleep(fault.seconds)
        signal_server(self._pair.primary, signal.SIGCONT)
        self._over()

    def _crashed(self, fault: Fault) -> None:
        """Its commits that waited for the standby are interrupted, and it comes back where it was."""
        self._begin(fault)
        self._pair.kill()
        time.sleep(fault.seconds)
        self._pair.start()
        self._over()

    def _restarted(self, fault: Fault) -> None:
        self._begin(fault)
        self._pair.restart()
        self._over()

    # The witness' own work

    def _fail_over(self) -> None:
        """Promote the standby once the primary has not answered a few times."""
        misses = 0
        while misses < _MISSES:
            misses = 0 if answers(self._pair.primary) else misses + 1
            time.sleep(_LOOK_EVERY_S)
        self._promote()

    def _promote(self) -> None:
        self._pair.promote()
        self._journal.note("promoted", victim="postgres")
        self._over()

    def _repair(self, fault: Fault) -> None:
        if not fault.fenced:
            time.sleep(_UNFENCED_S)
        self._pair.rebuild()
        if self._pair.synchronous:
            self._pair.make_synchronous()

    def _begin(self, fault: Fault) -> None:
        if not self._pair.synchronous and fault.kind in LOSSY:
            self._pair.cut_standby()
            time.sleep(_LAG_S)
        self._journal.note(
            "disturbed", kind=fault.kind, victim="postgres", seconds=fault.seconds, name=fault.name
        )

    def _over(self) -> None:
        self._journal.note("healed", victim="postgres")


def answers(server: EmbeddedPostgres) -> bool:
    """Return True if a server answers in time."""
    return run_apart(_answers(server.url))


async def _answers(url: str) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            connection = await asyncpg.connect(url)
            connection.terminate()
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    return True
