"""Two brokers' storage and sessions on one database, driven step by step from code that is not async."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings

from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.storage.lanes import LaneStore
from tests.integration.storage.conftest import EMPTY
from tests.integration.storage.stage import Stage

T = TypeVar("T")


def steps(examples: int, length: int) -> settings:
    """The same bounded examples at each run; a failure is not shrunk where it is expected."""
    return settings(
        max_examples=examples,
        stateful_step_count=length,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )


@dataclass
class World:
    """Two brokers on one database."""

    loop: asyncio.AbstractEventLoop
    stages: list[Stage]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it now."""
        return self.loop.run_until_complete(work)

    def empty(self) -> None:
        """Begin anew: empty tables, and brokers that know of nothing."""
        self.run(self._empty())

    async def _empty(self) -> None:
        for table in EMPTY:
            if table != "broker":
                await self.stages[0].database.execute(f"delete from {table}")
        for stage in self.stages:
            stage.names.clear()

    def sessions(self) -> list[Sessions]:
        """Fresh session registries, one for each broker."""
        return [
            Sessions(stage.sessions, Directory(LaneStore(stage.database)), stage.broker)
            for stage in self.stages
        ]


@contextmanager
def world_on(url: str) -> Iterator[World]:
    """Open both brokers' connections on a loop of their own."""
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()

    async def enter() -> list[Stage]:
        return [await stack.enter_async_context(Stage.on(url, connections=2)) for _ in range(2)]

    try:
        yield World(loop, loop.run_until_complete(enter()))
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()
