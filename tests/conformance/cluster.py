"""The brokers of the suite: a pair that most scenarios share, and pairs of their own for the others."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.processes import Processes, RunningBroker

LEASE_S: Final = 3
READY: Final = ("--lease-duration", str(LEASE_S))


@dataclass
class Cluster:
    """Starts brokers on one database; `end()` leaves none."""

    database_url: str
    second_url: str = ""
    """The database of a second cell: clients of the shared brokers go through a gateway to both."""
    processes: Processes = field(default_factory=Processes)
    _shared: list[RunningBroker] = field(default_factory=list)
    _gateway: str = ""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def shared(self) -> list[RunningBroker]:
        """The pair that scenarios share; nobody stops it."""
        async with self._lock:
            if not self._shared:
                self._shared = await self.start(2)
            return list(self._shared)

    async def gateway(self) -> str:
        """The address of the gateway in front of the shared brokers; empty if there is none."""
        if not self.second_url:
            return ""
        brokers = await self.shared()
        async with self._lock:
            if not self._gateway:
                other = await asyncio.to_thread(self.processes.broker, self.second_url, *READY)
                first = ",".join(broker.url for broker in brokers)
                routes = f"elsewhere*={other.url};*={first}"
                self._gateway = (await asyncio.to_thread(self.processes.gateway, routes)).address
            return self._gateway

    async def start(self, count: int, args: Sequence[str] = ()) -> list[RunningBroker]:
        """Brokers that the caller may stop."""
        starting = (
            asyncio.to_thread(self.processes.broker, self.database_url, *READY, *args) for _ in range(count)
        )
        return list(await asyncio.gather(*starting))

    async def end(self) -> None:
        """Kill them all."""
        await asyncio.to_thread(self.processes.end)


async def stop(brokers: Sequence[RunningBroker]) -> None:
    """Kill these."""
    for broker in brokers:
        await asyncio.to_thread(broker.process.end_group)
