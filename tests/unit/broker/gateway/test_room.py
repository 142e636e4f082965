"""What may be on its way to one cell."""

import asyncio

import pytest

from hyrex_broker.domain.errors import CellAway
from hyrex_broker.gateway.room import CellRoom

FOR_EVER_S = 3600.0


async def test_one_waits_for_room_and_gets_it() -> None:
    room = CellRoom("video*", 10, "bytes")
    await room.enter(8, FOR_EVER_S)
    waiting = asyncio.create_task(room.enter(8, FOR_EVER_S))
    await asyncio.sleep(0)
    assert not waiting.done()
    room.leave(8)
    async with asyncio.timeout(60):
        await waiting
    assert room.taken == 8


async def test_after_one_has_waited_in_vain_others_are_refused_at_once_until_something_leaves() -> None:
    room = CellRoom("video*", 10, "bytes")
    await room.enter(8, FOR_EVER_S)
    with pytest.raises(CellAway, match="cell 'video\\*': 8 bytes wait for its answer already"):
        await room.enter(8, 0.0)
    async with asyncio.timeout(60):
        with pytest.raises(CellAway):
            await room.enter(8, FOR_EVER_S)
    await room.enter(2, FOR_EVER_S)
    room.leave(10)
    await room.enter(10, FOR_EVER_S)
    assert room.taken == 10


async def test_what_is_larger_than_the_room_has_all_of_it() -> None:
    room = CellRoom("video*", 10, "bytes")
    await room.enter(50, 0.0)
    with pytest.raises(CellAway):
        await room.enter(1, 0.0)
