"""A defect in one of the broker's loops is logged and costs a second of it; a cancellation ends it."""

import asyncio
import logging

import pytest

from hyrex_broker import loops


class Loop:
    """A loop that fails so many times, then runs."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.runs = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())

    async def _work(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("a defect")
        self.runs.set()
        await asyncio.Event().wait()


async def test_a_loop_that_fails_is_logged_once_and_runs_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "_RESTART_AFTER_S", 0.01)
    loop = Loop(failures=1)
    async with asyncio.timeout(60):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(loops.rerun_if_it_fails(loop.run, asyncio.Event()))
            await loop.runs.wait()
            running.cancel()
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.__dict__["loop"] == "Loop.run"


async def test_a_loop_that_fails_at_the_end_of_the_broker_does_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "_RESTART_AFTER_S", 0.01)
    began, ending = 0, asyncio.Event()

    async def clumsy() -> None:
        nonlocal began
        began += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("a defect of its end")

    running = asyncio.ensure_future(loops.rerun_if_it_fails(clumsy, ending))
    await asyncio.sleep(0.01)
    ending.set()
    running.cancel()
    await asyncio.wait({running}, timeout=60)
    assert running.done()
    assert began == 1


async def test_a_loop_that_waits_to_run_again_can_be_cancelled() -> None:
    running = asyncio.ensure_future(loops.rerun_if_it_fails(Loop(failures=1000).run, asyncio.Event()))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 60)
