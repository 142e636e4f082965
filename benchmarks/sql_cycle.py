"""sql_cycle_per_s: the bare limit: the hot path's own statements straight from asyncpg.

One process with three connections, each submitting, assigning and reporting batches of 500: no gRPC,
no hand-off, nothing decided or converted; ids and arguments are made before the clock starts.
"""

from benchmarks.rounds import Round
from benchmarks.stage import Stage
from benchmarks.usage import Cpu

BATCH = 500
CONNECTIONS = 3
WITHIN_S = 600.0


class SqlCycle:
    """A process that speaks to Postgres alone."""

    name = "sql_cycle"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._actor = stage.actor("sql_cycler", stage.database(), str(CONNECTIONS))

    def processes(self) -> dict[str, list[int]]:
        """By name."""
        return {"sql_client": [self._actor.pid]}

    def round(self, tasks: int) -> Round:
        """Submit, assign and report so many tasks."""
        self._actor.ask(WITHIN_S, prepare=tasks, batch=BATCH)
        cpu = Cpu(self._stage.postmaster, self.processes())
        took = self._actor.ask(WITHIN_S, go=True)
        return Round.of(tasks, took["seconds"], cpu.seconds())
