"""Long work lets others have their turn."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hyrex_broker.domain import long_work
from hyrex_broker.domain.long_work import in_portions


async def test_others_have_a_turn_every_few_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    slow: Any = SimpleNamespace(monotonic=lambda: next(clock) * 0.002)
    monkeypatch.setattr(long_work, "time", slow)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.ensure_future(other())
    assert [item async for item in in_portions(range(100), 1)] == list(range(100))
    running.cancel()
    assert turns >= 20


async def test_nothing_is_read_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            read.append(number)
            yield number

    async for item in in_portions(items()):
        assert read == list(range(item + 1))
