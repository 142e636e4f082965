"""The connection to whichever broker answers: one channel at a time, the next address when it fails.

It connects only while somebody wants it, so a client that is done costs a lost broker nothing.
"""

import asyncio
from collections.abc import Callable, Sequence

import grpc
import grpc.aio

from hyrex.transport.calls import Calls
from hyrex.transport.channel import Address, open_address

__all__ = ["Connection"]

READY = grpc.ChannelConnectivity.READY
FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class Connection:
    """Made on the loop that uses it. `on_ready` is called whenever a channel becomes usable."""

    def __init__(self, addresses: Sequence[Address], token: str | None, on_ready: Callable[[], None]) -> None:
        self._addresses = addresses
        self._token = token
        self._on_ready = on_ready
        self._at = 0
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self.was_ready = False
        self._channel: grpc.aio.Channel = open_address(addresses[0])
        self._calls = Calls(self._channel, token)

    def usable(self) -> Calls | None:
        """The calls of a connected channel; None, and the wish to have one, while there is none."""
        if self._channel.get_state() is READY:
            return self._calls
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
                self.was_ready = False
                self._ready.clear()
                await self._connect()
                self._wanted.clear()
                self.was_ready = True
                self._ready.set()
                self._on_ready()
        finally:
            await self._channel.close()
            del self._channel, self._calls

    async def _connect(self) -> None:
        while (state := self._channel.get_state(try_to_connect=True)) is not READY:
            if state is FAILED and len(self._addresses) > 1:
                await self._turn()
            else:
                await self._channel.wait_for_state_change(state)

    async def _turn(self) -> None:
        """Try the next address; after a full round without an answer, pause first."""
        self._at = (self._at + 1) % len(self._addresses)
        if self._at == 0:
            await asyncio.sleep(0.2)
        await self._channel.close()
        self._channel = open_address(self._addresses[self._at])
        self._calls = Calls(self._channel, self._token)
