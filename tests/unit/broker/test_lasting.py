"""A broker that begins anew again and again waits a little longer each time, and no longer than a second."""

import asyncio
import time

import pytest

from hyrex_broker import lasting
from hyrex_broker.lasting import Enduring, pause_s
from tests.support.loops import settle


def test_pauses_grow_up_to_a_bound_and_the_first_is_none() -> None:
    assert pause_s(0) == 0
    assert 0.05 <= pause_s(1) <= 0.1
    assert 0.2 <= pause_s(3) <= 0.4
    assert 0.5 <= pause_s(5000) <= 1


async def test_every_beginning_but_the_first_waits() -> None:
    enduring = Enduring()
    began = time.monotonic()
    for _ in range(4):
        assert await enduring.may_begin_anew()
    assert time.monotonic() - began >= (0.1 + 0.2 + 0.4) / 2


async def test_a_stop_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "pause_s", lambda _: 600.0)
    enduring = Enduring()
    waiting = asyncio.ensure_future(enduring.may_begin_anew())
    await settle()
    assert not waiting.done()
    enduring.stop.set()
    assert not await asyncio.wait_for(waiting, 60)
