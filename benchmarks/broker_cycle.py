"""broker_cycle_per_s: raw generated stubs as producer and worker processes, durable end to end.

Timed from the first frame of the producer to the acknowledgement of the last report.
"""

from dataclasses import dataclass
from typing import Final

from benchmarks.rounds import Round
from benchmarks.stage import Stage
from benchmarks.usage import Cpu
from hyrex_broker.domain.rates import HIGHEST_COUNT

FRAME = 500
WINDOW = 8
CAPACITY = 8000
WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class More:
    """What tasks have beside what they need."""

    headed: int = 0
    """Each so-manieth has a header (0: none)."""
    keys: int = 0
    """They share so many concurrency keys in turn (0: none)."""
    most: int = 1
    """Tasks of a key that may run at once."""
    fair: int = 0
    """They share so many fair keys in turn (0: none)."""
    rated: bool = False
    """They have the highest rate there is, which never holds them back."""


PLAIN: Final = More()


class BrokerCycle:
    """A broker on a database of its own, with a producer and a worker."""

    def __init__(self, stage: Stage, more: More = PLAIN, *, handoff: bool = True, name: str = "") -> None:
        self.name = name or ("broker_cycle" if handoff else "broker_cycle_no_handoff")
        self._stage = stage
        self._order = {"headed": more.headed, "keys": more.keys, "most": more.most, "fair": more.fair}
        self.database = stage.database()
        self._broker = stage.broker(self.database, handoff=handoff)
        self._producer = stage.actor("raw_producer", self._broker.address)
        rate = [str(HIGHEST_COUNT)] if more.rated else []
        self._worker = stage.actor("raw_worker", self._broker.address, str(CAPACITY), *rate)

    def processes(self) -> dict[str, list[int]]:
        """By name."""
        return {
            "broker": [self._broker.process.pid],
            "worker_stream": [self._worker.pid],
            "producer": [self._producer.pid],
        }

    def round(self, tasks: int) -> Round:
        """Submit, run and record so many tasks."""
        cpu = Cpu(self._stage.postmaster, self.processes())
        self._worker.order(count=tasks)
        submitted = self._producer.ask(WITHIN_S, count=tasks, frame=FRAME, window=WINDOW, **self._order)
        done = self._worker.answer(WITHIN_S)
        return Round.of(tasks, done["ended"] - submitted["began"], cpu.seconds())
