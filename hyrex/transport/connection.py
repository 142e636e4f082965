"""The connection to whichever broker serves: one channel at a time, to the next address when it fails.

Each client tries its addresses in an order of its own, so that many clients spread over all brokers. One that
had to leave its first broker returns to it later. It connects only while that is wanted, so that idle clients
do not all reconnect to a lost broker. With a single address there is no other to go to, so silence is not
watched.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import grpc
import grpc.aio

from hyrex.transport.calls import Calls
from hyrex.transport.channel import Address, open_address, spread
from hyrex.transport.errors import CallFailure
from hyrex.transport.health import CONNECT_WITHIN_S, Health, check, serves
from hyrex.transport.silence import FOR_EVER_S, SilenceWatch

__all__ = ["BrokerConnection"]

READY: Final = grpc.ChannelConnectivity.READY
FAILED: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE
ROUND_PAUSE_S: Final = 0.2
RETURN_AFTER_S: Final = 30.0
# A broker that serves, but has not answered for so long, is left; after each time the limit is doubled.
FIRST_PATIENCE_S: Final = 2.5
LONGEST_PATIENCE_S: Final = 60.0
# After a return, calls at the other broker have so long to end there.
LINGER_S: Final = 3.0


class Open:
    """A channel and its calls. `left`: no new call may use it."""

    def __init__(self, address: Address, token: str | None) -> None:
        self.address = address
        self.channel = open_address(address)
        self.calls = Calls(self.channel, token)
        self.left = False
        self.began = False  # it was connected, and its broker was asked whether it serves
        self._asking: asyncio.Task[Health] | None = None

    async def health(self) -> Health:
        """Ask the broker whether it serves; calls at the same time share one question."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(check(self.channel))
        return await asyncio.shield(self._asking)

    async def close(self) -> None:
        """End the channel and every call on it."""
        if self._asking is not None:
            self._asking.cancel()
        await self.channel.close()


class BrokerConnection:
    """Made on the loop that uses it. `on_ready` is called whenever a channel becomes usable."""

    def __init__(self, addresses: Sequence[Address], token: str | None, on_ready: Callable[[], None]) -> None:
        self._addresses = spread(addresses)
        self._token = token
        self._on_ready = on_ready
        self._has_others = len(self._addresses) > 1
        self._at = 0
        self._patience_s = FIRST_PATIENCE_S
        self._return_at = FOR_EVER_S
        self._returning: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self.is_refused = False
        self.failure: CallFailure | None = None
        """Why no address can be used; None while one can."""
        self._open: Open | None = Open(self._addresses[0], token)

    def usable(self) -> Calls | None:
        """The calls of a connected channel; if there is none, None, and a connection is made."""
        opened = self._open
        if opened is not None and opened.began and not opened.left and opened.channel.get_state() is READY:
            return opened.calls
        self._wanted.set()
        return None

    async def ready(self) -> Calls:
        """The calls of a connected channel, however long that takes."""
        while (calls := self.usable()) is None:
            self._ready.clear()
            await self._ready.wait()
        return calls

    def look_after(self, calls: Calls, *, is_watch: bool = False) -> AbstractContextManager[None]:
        """A context for a call. If its broker is silent, and there is another one, the call fails repeatably.

        For a watch, which may be silent for long, only the broker's health counts.
        """
        opened = self._open
        if not self._has_others or opened is None or opened.calls is not calls:
            return nullcontext()
        patience_s = FOR_EVER_S if is_watch else self._patience_s
        return SilenceWatch(opened.health, lambda: self._leave_silent(calls), patience_s)

    def answered(self) -> None:
        """Note that a call was answered, so that the broker's limit for silence is the first one again."""
        if self._has_others:
            self._patience_s = FIRST_PATIENCE_S
            if self._return_at < asyncio.get_running_loop().time():
                self._return_at = FOR_EVER_S
                self._returning = asyncio.create_task(self._return())

    def leave(self, calls: Calls) -> None:
        """Go to another broker, if there is one and it has not happened yet; these calls then fail."""
        opened = self._open
        if self._has_others and opened is not None and opened.calls is calls and not opened.left:
            opened.left = True
            self._wanted.set()

    def _leave_silent(self, calls: Calls) -> None:
        self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S)
        self.leave(calls)

    async def run(self) -> None:
        """Keep a channel connected while one is wanted, until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._ready.clear()
                await self._connect()
                self._wanted.clear()
                self.is_refused = False
                self.failure = None
                self._ready.set()
                self._on_ready()
        finally:
            await self._end()

    async def _connect(self) -> None:
        while (opened := self._open) is not None:
            state = opened.channel.get_state(try_to_connect=True)
            if not opened.left and state is READY and await self._serves(opened):
                opened.began = True
                return
            if opened.left or state is READY or not await self._changes(opened, state):
                await self._try_next(opened)

    async def _changes(self, opened: Open, state: grpc.ChannelConnectivity) -> bool:
        """Wait for another state. Return False if another broker is to be tried instead."""
        self.is_refused = self.is_refused or state is FAILED
        if state is FAILED and self._has_others:
            return False
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S if self._has_others else None):
                await opened.channel.wait_for_state_change(state)
        except TimeoutError:
            self.is_refused = True
            return False
        return True

    async def _serves(self, opened: Open) -> bool:
        if not self._has_others or (await opened.health()).serves:
            return True
        text = f"{opened.address.url} does not serve"
        self.failure = CallFailure(grpc.StatusCode.UNAVAILABLE, text, "", {})
        return False

    async def _try_next(self, opened: Open) -> None:
        """Try the next address; after a full round without an answer, pause first."""
        if self._open is not opened:
            return  # it has returned to the first one
        self._at = (self._at + 1) % len(self._addresses)
        if self._at == 0:
            await asyncio.sleep(ROUND_PAUSE_S)
        await self._close()
        self._open = Open(self._addresses[self._at], self._token)
        self._plan_return()

    def _plan_return(self) -> None:
        """Plan to return to the first broker, at a random time.

        Without returns, clients that left a broker would stay with the others for ever.
        """
        after_s = random.uniform(RETURN_AFTER_S / 2, RETURN_AFTER_S)
        self._return_at = asyncio.get_running_loop().time() + after_s if self._at else FOR_EVER_S

    async def _return(self) -> None:
        """Go back to the first address if it serves; calls under way may end where they are."""
        left = self._open
        home = Open(self._addresses[0], self._token)
        if left is None or not await serves(home.channel) or self._open is not left:
            await home.close()
            self._plan_return()
            return
        home.began = True
        self._open, self._at = home, 0
        self._ready.set()
        self._on_ready()
        try:
            await asyncio.sleep(LINGER_S)
        finally:
            await left.close()

    async def _close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.close()

    async def _end(self) -> None:
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        await self._close()
