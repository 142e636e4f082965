"""Keeps one child running: whatever ends it, a new one starts, later and later if it keeps ending."""

import asyncio
from collections.abc import Callable
from typing import Final

from hyrex.cli.devserver.child import ChildEnded, DevProcess, Recipe, describe_status
from hyrex.cli.devserver.console import warn

READY_WITHIN_S: Final = 60.0
LONGEST_PAUSE_S: Final = 10.0
STEADY_AFTER_S: Final = 30.0


class Keeper:
    """A child, replaced when it crashes; its recipe is asked for at each start.

    Outputs are relayed by tasks of `relays`.
    """

    def __init__(self, recipe: Callable[[], Recipe], relays: asyncio.TaskGroup) -> None:
        self._recipe = recipe
        self._relays = relays
        self._changed = asyncio.Event()
        self.child: DevProcess | None = None

    async def start(self) -> DevProcess:
        """Start the first child, or one beside the present child; ready when this returns.

        The new one is `child` from then on. Raises: ChildEnded, TimeoutError; `child` stays as it was.
        """
        fresh = await DevProcess.start(self._recipe())
        self._relays.create_task(fresh.relay_output())
        try:
            await fresh.until_ready(READY_WITHIN_S)
        except BaseException:
            await fresh.kill()
            raise
        self.child = fresh
        self._changed.set()
        return fresh

    async def other_than(self, known: DevProcess | None) -> DevProcess:
        """Wait until the child is another one than `known`, and return it."""
        while self.child is None or self.child is known:
            self._changed.clear()
            await self._changed.wait()
        return self.child

    async def run(self) -> None:
        """Watch the present child; start another one when it ends by itself."""
        pause_s = 0.5
        while True:
            watched = self.child or await self.other_than(None)
            began = asyncio.get_running_loop().time()
            status = await watched.process.wait()
            if self.child is not watched:
                continue  # replaced on purpose
            if asyncio.get_running_loop().time() - began > STEADY_AFTER_S:
                pause_s = 0.5
            warn(f"the {watched.recipe.label} {describe_status(status)}; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            await self._start_again(watched)

    async def _start_again(self, ended: DevProcess) -> None:
        if self.child is not ended:
            return
        try:
            await self.start()
        except (ChildEnded, TimeoutError) as error:
            warn(str(error))
