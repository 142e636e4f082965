"""Inline tasks and time: timeouts, and a clock that the test moves."""

import asyncio
import time
from datetime import timedelta

import pytest

from hyrex import (
    HyrexRegistry,
    TaskTimedOut,
)
from hyrex.testing import inline
from tests.unit.sdk.inline_tasks import child, hy, seen


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def test_timeout_of_an_async_task_strikes() -> None:
    @HyrexRegistry().task(timeout_seconds=0.01)
    async def hangs() -> None:
        await asyncio.sleep(60)

    with inline(raise_failures=False):
        handle = hangs.send()
        with pytest.raises(TaskTimedOut):
            handle.result()


@hy.task
def hourly(left: str) -> str:
    hourly.with_config(delay=3600).send(left + "x")
    return left


@hy.task
def endless(n: int) -> None:
    endless.send(n + 1)


@hy.task(timeout_seconds=0.05, max_retries=1)
def sleeps() -> None:
    time.sleep(60)


def test_a_delayed_task_waits_until_the_test_moves_the_clock() -> None:
    with inline() as tasks:
        handle = child.with_config(delay=3600).send(3)
        later = child.with_config(run_at=tasks.now + timedelta(hours=2)).send(4)
        assert handle.status == "scheduled"
        assert not handle.wait(timeout=0)
        with pytest.raises(TimeoutError, match=r"child runs at .*advance\(\)"):
            handle.result()
        tasks.advance(3599)
        assert not seen
        tasks.advance(timedelta(seconds=1))
        assert handle.result() == 9
        assert [task.handle.id for task in tasks.scheduled] == [later.id]
        assert later.cancel()
        tasks.advance(timedelta(days=1))
        later.refresh()
        assert later.status == "cancelled"
    assert len(seen) == 1


def test_a_task_that_sends_itself_again_runs_once_for_each_time_it_is_due() -> None:
    with inline() as tasks:
        hourly.send("x")
        assert len(tasks.sent) == 2
        tasks.advance(timedelta(hours=3))
        assert [call.arguments for call in tasks.calls] == [{"left": "x" * n} for n in range(1, 6)]
        assert [call.name for call in tasks.scheduled] == ["hourly"]
        with pytest.raises(RecursionError, match=r"endless was sent 30 runs deep"):
            endless.send(0)


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_timeout_of_a_plain_task_strikes(on_a_loop: bool) -> None:
    with inline() as tasks:
        with pytest.raises(TaskTimedOut, match=r"2 attempts"):
            asyncio.run(_send_sleepy()) if on_a_loop else sleeps.send()
        assert [run.status for run in tasks.sent[0].task_runs] == ["timed_out"] * 2


@hy.task(timeout_seconds=0.05)
def waits_for_another() -> None:
    sleeps.with_config(timeout_seconds=60).send()


def test_the_timeout_of_a_run_strikes_in_the_run_that_it_sends() -> None:
    with inline(raise_failures=False):
        handle = waits_for_another.send()
    with pytest.raises(TaskTimedOut):
        handle.result()


async def _send_sleepy() -> None:
    await naps.send_async()


@hy.task(timeout_seconds=0.05, max_retries=1)
def naps() -> None:
    for _ in range(6000):
        time.sleep(0.01)
