"""The connection to whichever broker answers: one channel at a time, the next address when it fails.

It connects only while somebody wants it, so a client that is done costs a lost broker nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from hyrex.transport.calls import Calls
from hyrex.transport.channel import Address, open_address

__all__ = ["Connection"]

READY: Final = grpc.ChannelConnectivity.READY
FAILED: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE
ROUND_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Open:
    """A channel and the calls on it."""

    channel: grpc.aio.Channel
    calls: Calls

    @classmethod
    def to(cls, address: Address, token: str | None) -> "Open":
        """Open a channel; it connects when it is asked to."""
        channel = open_address(address)
        return cls(channel, Calls(channel, token))


class Connection:
    """Made on the loop that uses it. `on_ready` is called whenever a channel becomes usable."""

    def __init__(self, addresses: Sequence[Address], token: str | None, on_ready: Callable[[], None]) -> None:
        self._addresses = addresses
        self._token = token
        self._on_ready = on_ready
        self._at = 0
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self.is_refused = False
        self._open: Open | None = Open.to(addresses[0], token)

    def usable(self) -> Calls | None:
        """The calls of a connected channel; None, and the wish to have one, while there is none."""
        if self._open is not None and self._open.channel.get_state() is READY:
            return self._open.calls
        self._wanted.set()
        return None

    async def ready(self) -> Calls:
        """The calls of a connected channel, however long that takes."""
        while (calls := self.usable()) is None:
            self._ready.clear()
            await self._ready.wait()
        return calls

    async def run(self) -> None:
        """Keep a channel connected while it is wanted; until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._ready.clear()
                await self._connect()
                self._wanted.clear()
                self.is_refused = False
                self._ready.set()
                self._on_ready()
        finally:
            await self._close()

    async def _connect(self) -> None:
        while self._open is not None:
            channel = self._open.channel
            state = channel.get_state(try_to_connect=True)
            if state is READY:
                return
            self.is_refused = self.is_refused or state is FAILED
            if state is FAILED and len(self._addresses) > 1:
                await self._turn()
            else:
                await channel.wait_for_state_change(state)

    async def _turn(self) -> None:
        """Try the next address; after a full round without an answer, pause first."""
        self._at = (self._at + 1) % len(self._addresses)
        if self._at == 0:
            await asyncio.sleep(ROUND_PAUSE_S)
        await self._close()
        self._open = Open.to(self._addresses[self._at], self._token)

    async def _close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.channel.close()
