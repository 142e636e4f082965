"""Places for first messages that are still arriving."""

import asyncio
from typing import Any

import pytest

from hyrex_broker.domain.errors import ArrivesSlowly
from hyrex_broker.service import arriving
from hyrex_broker.service.arriving import AT_ONCE, Arriving


async def test_a_place_that_a_caller_left_behind_is_given_to_the_next() -> None:
    """The caller that was admitted has gone before it could begin."""
    places, ends = Arriving(), asyncio.Event()

    async def read() -> Any:
        await ends.wait()

    async def read_at_once() -> str:
        return "read"

    slow = [asyncio.ensure_future(places.first(read)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    gone, next_one = (asyncio.ensure_future(places.first(read_at_once)) for _ in range(2))
    await asyncio.sleep(0)
    slow[0].cancel()
    await asyncio.sleep(0)  # its place is given to the first that waits,
    gone.cancel()  # which goes before it has heard of that
    assert await asyncio.wait_for(next_one, arriving.PATIENCE_S / 2) == "read"
    ends.set()
    await asyncio.gather(*slow[1:])
    assert places.is_empty


async def test_the_slowest_makes_way_and_learns_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "PATIENCE_S", 0.05)
    places, ends = Arriving(), asyncio.Event()

    async def read() -> Any:
        await ends.wait()

    slow = [asyncio.ensure_future(places.first(read)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    another = asyncio.ensure_future(places.first(read))
    with pytest.raises(ArrivesSlowly):
        await asyncio.wait_for(slow[0], 60)
    assert not any(each.done() for each in slow[1:])
    ends.set()
    await asyncio.gather(another, *slow[1:])
