"""What one task by itself costs a broker, in calls of its own functions: these do not depend on the machine.

On cold caches a call takes about a microsecond, so that what is made for blocks of a thousand may cost a
single task more than its statement does.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from types import FrameType

from hyrex_broker.domain.model import Outcome
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import block_of, block_of_returned, end_of, new_task

TASKS = 21
MOST_CALLS = 350
"""There are 319 in Python 3.11; later versions count fewer. There were 410 before absent columns were sent as
null, a batch of one block became its columns as they are, and contexts were no generators."""


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


async def test_a_single_task_is_stored_handed_off_and_recorded_in_few_calls(bench: Bench) -> None:
    _, link = await bench.worker(capacity=4)
    calls: list[int] = []
    for number in range(TASKS):
        block = block_of(new_task())
        with counted(calls):
            await bench.engine.intake.submit([block], "caller")
        run = (await link.until_runs(number + 1))[-1]
        ended = [block_of_returned([end_of(run, Outcome.COMPLETED)])]
        with counted(calls):
            await bench.engine.reports.report_returned(ended, "worker")
    submits, reports = calls[::2], calls[1::2]
    # Loops of the engine that happen to wake up count as well: not in most of them.
    assert median(submits) + median(reports) <= MOST_CALLS, (submits, reports)
