"""Looks at queues with a maximum: those that fail, are slow, or are overtaken by a change."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.submit.rooms import Rooms
from tests.support.loops import end


class Looks:
    """Looks that a test answers, and counts."""

    def __init__(self, answer: Callable[[int], Awaitable[int]]) -> None:
        self.answer = answer
        self.mosts: list[int] = []

    async def of_queue(self, queue: str, most: int) -> int:
        self.mosts.append(most)
        return await self.answer(most)


def failing(error: Exception) -> Looks:
    async def answer(most: int) -> int:
        await asyncio.sleep(0)
        raise error

    return Looks(answer)


async def test_who_waited_for_a_look_that_failed_makes_none_of_their_own() -> None:
    looks = failing(StorageUnavailable("away"))
    rooms = Rooms(looks)
    tried = await asyncio.gather(*[rooms.take("q", 1, 5) for _ in range(10)], return_exceptions=True)
    assert {type(each) for each in tried} == {StorageUnavailable}
    assert len(looks.mosts) == 1


async def test_what_takes_too_long_to_count_is_full() -> None:
    rooms = Rooms(failing(StorageUnavailable("slow", timed_out=True)))
    assert await rooms.take("q", 3, 5) == 0


async def test_a_refusal_names_no_time_before_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(most: int) -> int:
        return most

    rooms = Rooms(Looks(answer))
    assert await rooms.take("q", 1, 5) == 0
    now = time.monotonic()
    rooms._rooms["q"].due = now + 7
    with monkeypatch.context() as stands_still:
        stands_still.setattr(time, "monotonic", lambda: now)
        assert rooms.refusal("q").retry_after_s == pytest.approx(7)


async def test_a_maximum_that_changes_during_a_look_is_looked_at_again() -> None:
    changed = asyncio.Event()

    async def answer(most: int) -> int:
        if most == 1:
            await changed.wait()
        return min(most, 3)

    looks = Looks(answer)
    rooms = Rooms(looks)
    first = asyncio.ensure_future(rooms.take("q", 1, 1))
    while not looks.mosts:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(rooms.take("q", 9, 10))
    await asyncio.sleep(0)
    changed.set()
    async with asyncio.timeout(60):
        assert await first + await second == 7
    assert looks.mosts == [1, 10]


async def test_a_defect_in_a_look_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    failed = asyncio.Event()

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            failed.set()

    looks: Any = Looks(lambda most: (_ for _ in ()).throw(RuntimeError("defect")))
    rooms = Rooms(looks)
    handler = Broken()
    logging.getLogger("hyrex_broker.engine.submit.rooms").addHandler(handler)
    running = asyncio.ensure_future(rooms.run())
    try:
        with pytest.raises(RuntimeError):
            await rooms.take("q", 1, 5)
        rooms._rooms["q"].due = 0.0
        rooms._ask("q")
        await asyncio.wait_for(failed.wait(), 60)
        await asyncio.sleep(0)
        assert not running.done()
    finally:
        logging.getLogger("hyrex_broker.engine.submit.rooms").removeHandler(handler)
        await end(running)
    assert "defect" in caplog.text
