"""A look that takes long is taken seldom, so that it keeps no connection busy."""

import pytest

from hyrex_broker.engine import looks
from hyrex_broker.engine.looks import Look


class Clock:
    """A time that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(looks, "time", self)

    def monotonic(self) -> float:
        return self.now


async def taken_in(look: Look, clock: Clock, seconds: int) -> int:
    """How often it is taken by somebody who asks for it each second."""
    before = clock.now
    count = 0
    for _ in range(seconds):
        was = clock.now
        await look.again()
        count += clock.now > was
        clock.now += 1.0
    assert clock.now >= before + seconds
    return count


async def test_a_look_that_takes_long_uses_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    async def passes_dead_rows() -> None:
        clock.now += 2.0

    look = Look(1.0, passes_dead_rows)
    assert not look.is_patient
    assert await taken_in(look, clock, 400) <= 400 / 40 + 1
    await look.again()
    assert look.is_patient


async def test_a_look_that_fails_is_as_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    async def times_out() -> None:
        clock.now += 2.0
        raise TimeoutError

    look = Look(1.0, times_out)
    with pytest.raises(TimeoutError):
        await look.again()
    assert look.is_patient


async def test_a_quick_look_is_taken_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    async def finds_nothing() -> None:
        clock.now += 0.001

    look = Look(1.0, finds_nothing)
    assert await taken_in(look, clock, 100) == 100
    assert not look.is_patient
