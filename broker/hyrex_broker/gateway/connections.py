"""The connections to one cell: one for calls that are answered soon, others for calls that last.

A broker serves 1,000 calls of a connection at a time. Whatever is beyond waits in the client, health checks
too. So calls that last would take the places of all others, and the cell would seem to be silent.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from hyrex.transport.connection import BrokerConnection
from hyrex_broker.domain.errors import FlowControl

CALLS_OF_A_CONNECTION: Final = 500
"""That last; half of what a broker serves."""
MOST_CONNECTIONS: Final = 20
"""For calls that last."""


class _Shared:
    """A connection for calls that last, and how many it has."""

    def __init__(self, connection: BrokerConnection) -> None:
        self.connection = connection
        self.calls = 0


class CellConnections:
    """Made on the loop that uses them."""

    def __init__(self, connect: Callable[[], BrokerConnection]) -> None:
        self._connect = connect
        self.short = connect()
        """For calls that are answered soon."""
        self._lasting: list[_Shared] = []
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keep them connected, until cancelled."""
        try:
            await self.short.run()
        finally:
            for each in self._running:
                each.cancel()
            if self._running:
                await asyncio.wait(self._running)

    @contextmanager
    def lasting(self) -> Iterator[BrokerConnection]:
        """Within the block, a connection with a place for a call that lasts. Raises FlowControl."""
        shared = next((each for each in self._lasting if each.calls < CALLS_OF_A_CONNECTION), None)
        if shared is None:
            shared = self._another()
        shared.calls += 1
        try:
            yield shared.connection
        finally:
            shared.calls -= 1

    def _another(self) -> _Shared:
        if len(self._lasting) >= MOST_CONNECTIONS:
            most = MOST_CONNECTIONS * CALLS_OF_A_CONNECTION
            raise FlowControl(
                f"this gateway has {most} watches and streams of submits to one cell; repeat it later",
                {"limit": str(most)},
            )
        made = _Shared(self._connect())
        self._lasting.append(made)
        self._running.add(asyncio.create_task(made.connection.run()))
        return made
