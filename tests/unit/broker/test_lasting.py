"""A broker that begins anew again and again waits a little longer each time, and no longer than a second."""

import time

from hyrex_broker.lasting import Enduring, pause_s


def test_pauses_grow_up_to_a_bound_and_the_first_is_none() -> None:
    assert pause_s(0) == 0
    assert 0.05 <= pause_s(1) <= 0.1
    assert 0.2 <= pause_s(3) <= 0.4
    assert 0.5 <= pause_s(5000) <= 1


async def test_every_beginning_but_the_first_waits() -> None:
    lasting = Enduring()
    began = time.monotonic()
    for _ in range(4):
        assert await lasting.may_begin_anew()
    assert time.monotonic() - began >= (0.1 + 0.2 + 0.4) / 2


async def test_a_stop_ends_the_wait() -> None:
    lasting = Enduring()
    assert await lasting.may_begin_anew()
    lasting.stop.set()
    assert not await lasting.may_begin_anew()
