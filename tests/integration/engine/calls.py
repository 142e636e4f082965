"""`python -m tests.integration.engine.calls DATABASE_URL`: what one task by itself costs a broker, in calls
of its own functions, as JSON.

A process of its own: in Python 3.11 a thread that is traced stands still for ever where another thread of
its process has an asynchronous exception that it does not take, and earlier tests may leave one.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from hyrex_broker.domain.model import Outcome
from tests.integration.engine.bench import running_engine
from tests.integration.storage.stage import block_of, block_of_returned, end_of, new_task

TASKS: Final = 21


@contextmanager
def counted(calls: list[int]) -> Iterator[None]:
    """Count calls of the broker's functions and generators, and resumed coroutines."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call" and "hyrex_broker" in frame.f_code.co_filename

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        calls.append(count)


async def main(database_url: str) -> None:
    """Store tasks one after another, record the run of each, and print the calls of both."""
    submits: list[int] = []
    reports: list[int] = []
    async with running_engine(database_url) as bench:
        _, link = await bench.worker(capacity=4)
        for number in range(TASKS):
            block = block_of(new_task())
            with counted(submits):
                await bench.engine.intake.submission([block], "caller")()
            run = (await link.until_runs(number + 1))[-1]
            ended = [block_of_returned([end_of(run, Outcome.COMPLETED)])]
            with counted(reports):
                await bench.engine.reports.report_returned(ended, "worker")
    print(json.dumps({"submits": submits, "reports": reports}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
