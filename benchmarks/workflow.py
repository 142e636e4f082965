"""workflow: nodes of workflows a second, from the first submit to the acknowledgement of the last report.

Each workflow has a node, a number of others that wait for it, and one that waits for all of these. Ten of the
larger kind are a fan-out of ten thousand: a workflow has 1,000 nodes at the most.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.broker_cycle import CAPACITY, WITHIN_S, BrokerCycle
from benchmarks.cycles import note
from benchmarks.figures import Results
from benchmarks.rounds import Contestant, Round, alternate
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage
from benchmarks.usage import Cpu

WINDOW: Final = 8
_PLAIN: Final = "workflow_plain"


class WorkflowCycle:
    """A broker on a database of its own, with a sender of workflows and a worker."""

    def __init__(self, stage: Stage, nodes: int) -> None:
        self.name = f"workflow_{nodes}"
        self._stage, self._nodes = stage, nodes
        self._broker = stage.broker(stage.database())
        self._producer = stage.actor("workflow_producer", self._broker.address)
        self._worker = stage.actor("raw_worker", self._broker.address, str(CAPACITY))

    def processes(self) -> dict[str, list[int]]:
        """By name."""
        return {
            "broker": [self._broker.process.pid],
            "worker_stream": [self._worker.pid],
            "producer": [self._producer.pid],
        }

    def round(self, tasks: int) -> Round:
        """Submit, run and record about so many nodes."""
        cpu = Cpu(self._stage.postmaster, self.processes())
        workflows = max(tasks // self._nodes, 1)
        self._worker.order(count=workflows * self._nodes)
        submitted = self._producer.ask(WITHIN_S, workflows=workflows, nodes=self._nodes, window=WINDOW)
        done = self._worker.answer(WITHIN_S)
        return Round.of(workflows * self._nodes, done["ended"] - submitted["began"], cpu.seconds())


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note rates and CPU time, and their ratios to plain tasks."""
    makers: list[Callable[[], Contestant]] = [
        partial(BrokerCycle, stage, name=_PLAIN),
        partial(WorkflowCycle, stage, 100),
        partial(WorkflowCycle, stage, 1000),
    ]
    found = stage.start(*makers)
    names = [each.name for each in found]
    note(
        alternate(found, dict.fromkeys(names, sizes.workflow), sizes.rounds),
        [(name, _PLAIN) for name in names if name != _PLAIN],
        results,
    )
