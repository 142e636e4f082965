"""`python -m hyrex_broker` without direct hand-off: every task is stored as ready, then assigned.

With BENCH_ASSIGN_JOURNAL it appends what each assign took to that file: "milliseconds tasks".
"""

import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from hyrex_broker.__main__ import main
from hyrex_broker.domain.blocks import TaskBatch
from hyrex_broker.domain.model import LaneId
from hyrex_broker.engine.batching import StatementSlot
from hyrex_broker.engine.submit.handoff import Handoff, Placed, Stores
from hyrex_broker.storage.assign import AssignResult, AssignStore, Plan


async def hands_nothing_off(
    self: Handoff, batch: TaskBatch, statement: StatementSlot, store: Stores
) -> Placed | None:
    """In place of Handoff.submit."""
    return None


def note_assigns(journal: TextIO) -> None:
    """Write down what each assign takes from now on."""
    assign = AssignStore.assign

    async def noted(self: AssignStore, plan: Plan, names: Mapping[LaneId, tuple[str, str]]) -> AssignResult:
        began = time.perf_counter()
        result = await assign(self, plan, names)
        journal.write(f"{(time.perf_counter() - began) * 1000:.4f} {sum(map(len, result.blocks))}\n")
        return result

    AssignStore.assign = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    Handoff.submit = hands_nothing_off  # type: ignore[method-assign]
    if path := os.environ.get("BENCH_ASSIGN_JOURNAL"):
        with open(path, "a", buffering=1) as file:
            note_assigns(file)
            sys.exit(main())
    sys.exit(main())
