"""broker_cycle_per_s: raw generated stubs as producer and worker processes, durable end to end.

Timed from the first frame of the producer to the acknowledgement of the last report.
"""

from benchmarks.rounds import Round
from benchmarks.stage import Stage
from benchmarks.usage import Cpu

FRAME = 500
WINDOW = 8
CAPACITY = 8000
WITHIN_S = 600.0


class BrokerCycle:
    """A broker on a database of its own, with a producer and a worker."""

    def __init__(self, stage: Stage, *, handoff: bool = True, headed: int = 0) -> None:
        """With `headed`, each so-manieth task has a header."""
        self.name = "broker_cycle" if handoff else "broker_cycle_no_handoff"
        self.name += "_headers" if headed else ""
        self._stage = stage
        self._headed = headed
        self._broker = stage.broker(stage.database(), handoff=handoff)
        self._producer = stage.actor("raw_producer", self._broker.address)
        self._worker = stage.actor("raw_worker", self._broker.address, str(CAPACITY))

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
        submitted = self._producer.ask(WITHIN_S, count=tasks, frame=FRAME, window=WINDOW, headed=self._headed)
        done = self._worker.answer(WITHIN_S)
        return Round.of(tasks, done["ended"] - submitted["began"], cpu.seconds())
