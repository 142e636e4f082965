"""The bounds of what all connections of a broker together have in flight, or have not read."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hyrex.v1.task_service_pb2 import GetTaskResponse
from hyrex_broker.domain.errors import Overloaded, TooMuchUnread
from hyrex_broker.service import inflight, unread
from hyrex_broker.service.inflight import BROKER_BYTES, MIB, Budget
from hyrex_broker.service.unread import Unread, UnreadFrames

LARGE = bytes(16 * MIB)
SMALL = bytes(60 * 1024)


class Call:
    """A call: who calls, what it sends, and its end."""

    def __init__(self, peer: str, body: bytes = b"") -> None:
        self._peer = peer
        self._body = body
        self._at_the_end: list[Callable[[object], None]] = []

    def peer(self) -> str:
        return self._peer

    async def read(self) -> bytes:
        return self._body

    def add_done_callback(self, done: Callable[[object], None]) -> None:
        self._at_the_end.append(done)

    def end(self) -> None:
        for done in self._at_the_end:
            done(self)


def caller(peer: str) -> Any:
    """A call that sends nothing."""
    return Call(peer)


async def test_beyond_what_all_have_in_flight_only_those_that_have_little_are_read_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inflight, "PATIENCE_S", 0.01)
    budget = Budget()
    peers = [f"bulk {number}" for number in range(BROKER_BYTES // len(LARGE))]
    for peer in peers:
        await budget.read(Call(peer, LARGE), peer)
    for peer in peers:
        with pytest.raises(Overloaded, match="this broker"):
            await budget.read(Call(peer, SMALL), peer)
    assert await budget.read(Call("single", SMALL), "single") == SMALL
    budget.give(peers[0], len(LARGE))
    assert await budget.read(Call(peers[1], SMALL), peers[1]) == SMALL


async def test_a_large_message_that_is_one_too_many_of_all_is_refused() -> None:
    budget = Budget()
    for number in range(BROKER_BYTES // len(LARGE) + 2):  # two were being received when it was reached
        await budget.read(Call(f"bulk {number}", LARGE), f"bulk {number}")
    with pytest.raises(Overloaded, match="this broker"):
        await budget.read(Call("one more", LARGE), "one more")


async def test_answers_that_all_connections_together_do_not_read_are_bounded() -> None:
    answers = Unread()

    async def behaviour(request: Any, context: Call) -> GetTaskResponse:
        response = GetTaskResponse()
        response.task.payload = LARGE[: 15 * MIB]
        return response

    calls: list[Any] = [Call(f"reader {number}") for number in range(BROKER_BYTES // (15 * MIB))]
    for call in calls:
        await answers.answer(behaviour, None, call)
    with pytest.raises(TooMuchUnread, match="this broker"):
        await answers.answer(behaviour, None, caller("one more"))
    calls[0].end()
    await answers.answer(behaviour, None, caller("one more"))


async def test_frames_that_all_connections_together_do_not_read_end_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []

    def hang_up(peer: str, why: str) -> bool:
        ended.append(peer)
        return True

    monkeypatch.setattr(unread, "hang_up", hang_up)
    frames = UnreadFrames()
    async with AsyncExitStack() as held:
        for number in range(BROKER_BYTES // len(LARGE)):
            await held.enter_async_context(frames.place(caller(f"watcher {number}"), len(LARGE)))
        assert not ended
        with pytest.raises(TooMuchUnread, match="this broker"):
            await held.enter_async_context(frames.place(caller("one more"), len(LARGE)))
        monkeypatch.setattr(unread, "PATIENCE_S", 0.0)
        await held.enter_async_context(frames.place(caller("one more"), len(LARGE)))
    assert ended == ["watcher 0"]
