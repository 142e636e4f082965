"""The worker follows the code: new code that imports gets a new worker, then the old one leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from hyrex.cli.devserver.child import ChildEnded, DevProcess
from hyrex.cli.devserver.console import say, warn
from hyrex.cli.devserver.keeper import Keeper
from hyrex.cli.devserver.target import check

DRAIN_S: Final = 5.0
RELEASE_S: Final = 6.0


class Reloader:
    """Replaces the worker of `keeper` whenever a Python file below `folder` changes."""

    def __init__(
        self, target: str, keeper: Keeper, folder: Path, running: Callable[[DevProcess], int]
    ) -> None:
        self._target = target
        self._keeper = keeper
        self._folder = folder
        self._running = running
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """The first worker runs, or has failed: take up what has changed since run() began."""
        self._begun.set()

    async def run(self) -> None:
        """Follow the files until cancelled. Start it before the code is first read: no change is missed."""
        async for _ in self._changes():
            await self._begun.wait()
            await self._reload()

    async def _changes(self) -> AsyncIterator[None]:
        from watchfiles import PythonFilter, awatch

        ignored = [self._folder / ".hyrex", self._folder / "venv"]
        chosen = PythonFilter(ignore_paths=ignored)
        async for _ in awatch(
            self._folder, watch_filter=chosen, debounce=200, step=40, raise_interrupt=False
        ):
            yield

    async def _reload(self) -> None:
        began = time.monotonic()
        old = self._keeper.child
        stays = "old code keeps running" if old is not None else "no worker runs until it is mended"
        broken = await check(self._target)
        if broken is not None:
            warn(f"{broken}; {stays}")
            return
        try:
            await self._keeper.start()
        except (ChildEnded, TimeoutError) as error:
            warn(f"{error}; {stays}")
            return
        took_s = time.monotonic() - began
        interrupted = await self._retire(old) if old is not None else 0
        runs = "1 run" if interrupted == 1 else f"{interrupted} runs"
        say(f"worker reloaded in {took_s:.1f} s, {runs} interrupted")

    async def _retire(self, old: DevProcess) -> int:
        """Let the old worker finish what it runs, for a while; how many runs it had to give back."""
        old.terminate()
        if await old.ended_within(DRAIN_S):
            return 0
        interrupted = await asyncio.to_thread(self._running, old)
        old.terminate()
        await old.ended_within(RELEASE_S)
        await old.kill()
        return interrupted
