"""Several cells beside one: `python -m benchmarks.cells [TASKS [ROUNDS]]`.

Three cells, each with a Postgres of its own, a broker and a worker with one process. The same tasks of three
queues go in turn to one of them (HYREX_BROKER_URL) and, by queue, to all three: from the sender
(HYREX_CELLS), and through a gateway. Printed is the CPU time of a task in all processes, and which part was
spent where. Then a thread sends task after task to
each cell, and in the middle one cell's broker and Postgres are killed: printed are the longest times without
an answer in the others, before and after.
"""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.processes import Process
from benchmarks.sdk_cycle import idle
from benchmarks.stage import Broker, Stage, run
from benchmarks.usage import own_seconds, postgres_seconds, tree
from hyrex_broker.embedded import EmbeddedPostgres
from hyrex_broker.storage.migrate import migrate

CELLS: Final = 3
CHUNK: Final = 5_000
WITHIN_S: Final = 170.0
HALF_S: Final = 8.0
SEND_TIMEOUT_S: Final = "2"


@dataclass(frozen=True, slots=True)
class Cell:
    """One Hyrex, and its queue."""

    server: EmbeddedPostgres
    broker: Broker
    worker: Process
    queue: str

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by part."""
        return {
            "postgres": postgres_seconds(self.server.pid),
            "broker": own_seconds(self.broker.process.pid),
            "worker": sum(map(own_seconds, tree(self.worker.pid))),
        }


def main() -> int:
    """The exit status."""
    tasks = int(sys.argv[1]) if sys.argv[1:] else 60_000
    rounds = int(sys.argv[2]) if sys.argv[2:] else 3
    with Stage() as stage, _cells(stage) as cells:
        routes = ";".join(f"{cell.queue}={cell.broker.url}" for cell in cells) + f";*={cells[0].broker.url}"
        one = stage.actor("cell_sender", env={"HYREX_BROKER_URL": cells[0].broker.url})
        all_of_them = stage.actor(
            "cell_sender", env={"HYREX_CELLS": routes, "HYREX_SEND_TIMEOUT": SEND_TIMEOUT_S}
        )
        gateway = stage.gateway(routes)
        through = stage.actor("cell_sender", env={"HYREX_BROKER_URL": gateway.url})
        found: dict[str, list[float]] = {"one cell": [], f"{CELLS} cells": [], "through a gateway": []}
        for number in range(rounds + 1):  # the first one warms up
            for name, sender in zip(found, (one, all_of_them, through), strict=True):
                in_use = cells[:1] if sender is one else cells
                senders = [sender, gateway.process] if sender is through else [sender]
                spent = _round(in_use, senders, [cell.queue for cell in cells], tasks)
                if number:
                    found[name].append(spent)
        alone, several, routed = (median(each) for each in found.values())
        print(
            f"CPU of a task: {alone:.1f} us in one cell, {several:.1f} us in {CELLS}: {several / alone:.2f}"
        )
        print(f"  and {routed:.1f} us in {CELLS} through a gateway: {routed / several:.2f} of {CELLS} cells")
        _kill_one(cells, all_of_them)
    return 0


@contextmanager
def _cells(stage: Stage) -> Iterator[list[Cell]]:
    with ExitStack() as stack:
        cells = []
        for number in range(CELLS):
            server = stack.enter_context(EmbeddedPostgres())
            run(migrate(server.url))
            stage.run_sql(server.url, "alter role current_user set search_path = hyrex, public")
            broker = stage.broker(server.url)
            worker = stage.worker(broker.url, "-p", "1")
            cells.append(Cell(server, broker, worker, f"bench-{number}"))
        yield cells


def _round(cells: Sequence[Cell], senders: Sequence[Process], queues: Sequence[str], tasks: int) -> float:
    """CPU microseconds of a task."""
    before = _spent(cells, senders)
    began = time.monotonic()
    senders[0].ask(WITHIN_S, count=tasks, chunk=CHUNK, queues=queues)
    for cell in cells:
        run(idle(cell.server.url))
    seconds = time.monotonic() - began
    spent = {name: (now - before[name]) / tasks * 1e6 for name, now in _spent(cells, senders).items()}
    parts = ", ".join(f"{name} {us:.1f}" for name, us in spent.items())
    print(f"  {len(cells)} cells: {tasks / seconds:,.0f} tasks/s, us of CPU a task: {parts}", flush=True)
    return sum(spent.values())


def _spent(cells: Sequence[Cell], senders: Sequence[Process]) -> dict[str, float]:
    found = dict(zip(("sender", "gateway"), (own_seconds(each.pid) for each in senders), strict=False))
    for cell in cells:
        for name, seconds in cell.cpu_s().items():
            found[name] = found.get(name, 0.0) + seconds
    return found


def _kill_one(cells: Sequence[Cell], sender: Process) -> None:
    def kill() -> None:
        cells[-1].broker.process.kill()
        cells[-1].server.kill()

    timer = threading.Timer(HALF_S, kill)
    timer.start()
    try:
        gaps = sender.ask(WITHIN_S, halves_s=HALF_S, queues=[cell.queue for cell in cells])["gaps"]
    finally:
        timer.join()
    for cell in cells[:-1]:
        before, after = gaps[cell.queue]
        print(
            f"{cell.queue}: longest time without an answer {before * 1e3:.0f} ms before, {after * 1e3:.0f} "
            f"ms while the cell of {cells[-1].queue} is dead"
        )


if __name__ == "__main__":
    sys.exit(main())
