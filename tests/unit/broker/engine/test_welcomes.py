"""A crowd of workers comes in a few at a time, and leaves half of the time to others."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from hyrex_broker.engine.sessions import welcomes
from hyrex_broker.engine.sessions.welcomes import AT_ONCE, Welcomes


async def test_few_are_welcomed_at_once_and_in_their_order() -> None:
    door, inside, most, order = Welcomes(), 0, 0, list[int]()

    async def come(number: int) -> None:
        nonlocal inside, most
        async with door.place():
            order.append(number)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(come(number))
    assert most == AT_ONCE
    assert order == list(range(20))


async def test_while_more_wait_each_is_followed_by_a_pause_as_long_as_it_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, pauses, door = 0.0, list[float](), Welcomes()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    clock: Any = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(welcomes, "time", clock)
    monkeypatch.setattr(asyncio, "sleep", pause)
    crowd = [door.place() for _ in range(AT_ONCE)]
    for each in crowd:
        await each.__aenter__()
    waiting = asyncio.ensure_future(door.place().__aenter__())
    await asyncio.wait({waiting}, timeout=0)
    now = 0.012
    await crowd[0].__aexit__(None, None, None)
    assert pauses == [0.012]
    await waiting
    now = 5.0
    await crowd[1].__aexit__(None, None, None)
    assert pauses == [0.012], "nobody waited any more"


async def test_one_that_fails_or_leaves_the_queue_gives_its_place_back() -> None:
    door = Welcomes()
    for _ in range(3 * AT_ONCE):
        with pytest.raises(ValueError, match="refused"):
            async with door.place():
                raise ValueError("refused")
    held = [door.place() for _ in range(AT_ONCE)]
    for each in held:
        await each.__aenter__()
    gone = asyncio.ensure_future(door.place().__aenter__())
    await asyncio.wait({gone}, timeout=0)
    gone.cancel()
    await asyncio.wait({gone})
    for each in held:
        await each.__aexit__(None, None, None)
    async with asyncio.timeout(60), door.place():
        pass
