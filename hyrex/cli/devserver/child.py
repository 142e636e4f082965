"""One child process of `hyrex dev`: started, awaited, relayed to the console, ended."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hyrex.cli.devserver import tied
from hyrex.cli.devserver.console import relay
from hyrex.cli.devserver.lines import lines_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a child, and the line by which it says that it is ready."""

    label: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    ready: re.Pattern[str]


class ChildEnded(Exception):
    """The child ended before it was ready; `status` is its exit status."""

    def __init__(self, label: str, status: int) -> None:
        super().__init__(f"the {label} {describe_status(status)} before it was ready")
        self.status = status


@dataclass
class DevProcess:
    """A running child, in a session of its own: Ctrl-C reaches `hyrex dev` alone."""

    recipe: Recipe
    process: asyncio.subprocess.Process
    _ready: "asyncio.Future[re.Match[str] | None]" = field(default_factory=asyncio.Future)

    @classmethod
    async def start(cls, recipe: Recipe) -> "DevProcess":
        """Start it; somebody must run relay_output()."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(Path(tied.__file__)), str(os.getpid())),
            *(sys.executable, "-P", *recipe.arguments),
            env=dict(os.environ) | dict(recipe.environment) | {"PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(recipe, process)

    async def relay_output(self) -> None:
        """Pass every line to the console, until there are no more."""
        assert self.process.stdout is not None
        async for line in lines_of(self.process.stdout):
            if not self._ready.done() and (found := self.recipe.ready.search(line)):
                self._ready.set_result(found)
            relay(self.recipe.label, line)
        if not self._ready.done():
            self._ready.set_result(None)

    async def until_ready(self, timeout_s: float) -> re.Match[str]:
        """Wait for the ready line. Raises: ChildEnded, TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await asyncio.shield(self._ready)
        except TimeoutError:
            raise TimeoutError(f"the {self.recipe.label} was not ready in {timeout_s:.0f} s") from None
        if found is None:
            raise ChildEnded(self.recipe.label, await self.process.wait())
        return found

    @property
    def name(self) -> str:
        """What it calls itself in its ready line; empty before that, or if it names nothing."""
        found = self._ready.result() if self._ready.done() else None
        return found.groupdict().get("name", "") if found is not None else ""

    def terminate(self) -> None:
        """SIGTERM; a second one tells a worker to give its runs back at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    async def ended_within(self, timeout_s: float) -> bool:
        """Wait for its end, for so long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), timeout_s)
        return self.process.returncode is not None

    async def kill(self) -> None:
        """End whatever is left of it and of its own children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


def describe_status(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    return f"was killed by {signal.Signals(-status).name}"
