"""workflow: nodes of workflows a second, from the first submit to the acknowledgement of the last report.

Each workflow has a node, a number of others that wait for it, and one that waits for all of these. It has
1,000 nodes at the most; fan_out_10000 is what the guide shows for more: a task that sends so many others
itself, waits for them and joins their results. Timed from its send to its result, with the SDK and a worker.
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
from benchmarks.usage import Cpu, worker_groups

WINDOW: Final = 8
_PLAIN: Final = "workflow_plain"


class FanOut:
    """A broker, a worker with its default settings, and a process that sends the task that sends others."""

    name = "fan_out_10000"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._broker = stage.broker(stage.database())
        self._worker = stage.worker(self._broker.url)
        self._sender = stage.actor("fan_out_sender", env={"HYREX_BROKER_URL": self._broker.url})

    def processes(self) -> dict[str, list[int]]:
        """By name."""
        return {
            "broker": [self._broker.process.pid],
            **worker_groups(self._worker.pid),
            "producer": [self._sender.pid],
        }

    def round(self, tasks: int) -> Round:
        """One fan-out of so many tasks and its join."""
        cpu = Cpu(self._stage.postmaster, self.processes())
        took = self._sender.ask(WITHIN_S, count=tasks)
        return Round.of(tasks, took["ended"] - took["began"], cpu.seconds())


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
        partial(FanOut, stage),
    ]
    found = stage.start(*makers)
    names = [each.name for each in found]
    note(
        alternate(found, dict.fromkeys(names, sizes.workflow) | {FanOut.name: sizes.fan_out}, sizes.rounds),
        [(name, _PLAIN) for name in names if name != _PLAIN],
        results,
    )
