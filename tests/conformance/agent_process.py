"""An agent as its driver sees it: a process that answers JSON lines (AGENT.md)."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.conformance.killing import kill_tree
from tests.conformance.languages import ROOT, search_path
from tests.support.process import TIED, environment

LINE_LIMIT: Final = 64 * 1024 * 1024
READY_WITHIN_S: Final = 30.0
KEPT_LOG_BYTES: Final = 20_000


class AgentFailed(Exception):
    """The agent ended, was silent, or said what is not an answer."""


class AgentProcess:
    """One running agent."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, folder: "tempfile.TemporaryDirectory[str]"
    ) -> None:
        self.name = name
        self._folder = folder
        self.log = bytearray()
        self._process = process
        self._next_id = 0
        self._logging = asyncio.create_task(self._keep_log())

    @classmethod
    async def start(cls, name: str, command: Sequence[str], env: Mapping[str, str]) -> "AgentProcess":
        """Start it and wait until it is ready. Raises: AgentFailed."""
        # What it and its workers leave behind when they are killed goes with it.
        folder = tempfile.TemporaryDirectory(prefix="conformance-")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(TIED), str(os.getpid()), *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=environment({"PATH": search_path(), "TMPDIR": folder.name} | dict(env)),
            start_new_session=True,
            limit=LINE_LIMIT,
        )  # fmt: skip
        agent = cls(name, process, folder)
        ready = await agent._read(READY_WITHIN_S)
        if ready.get("ready") is not True:
            raise AgentFailed(f"agent {name} did not say that it is ready but {str(ready)[:200]}")
        return agent

    async def call(self, op: str, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Send a command; its whole answer. Raises: AgentFailed."""
        self._next_id += 1
        line = json.dumps({"id": self._next_id, "op": op, **fields}, ensure_ascii=False)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError:
            raise AgentFailed(f"agent {self.name} has ended{self.tail}") from None
        answer = await self._read(timeout_s)
        if answer.get("id") != self._next_id:
            raise AgentFailed(f"agent {self.name} answered {answer.get('id')} to command {self._next_id}")
        return answer

    async def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise AgentFailed(f"agent {self.name} said nothing for {timeout_s:g} s{self.tail}") from None
        if not line:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 1.0)
            raise AgentFailed(f"agent {self.name} ended (status {self._process.returncode}){self.tail}")
        try:
            answer = json.loads(line)
        except ValueError:
            raise AgentFailed(f"agent {self.name} said {line[:200]!r}, which is not JSON") from None
        if not isinstance(answer, dict):
            raise AgentFailed(f"agent {self.name} said {line[:200]!r}, which is not an object")
        return answer

    @property
    def tail(self) -> str:
        """The end of its stderr, for people."""
        return (
            f"\n--- stderr of {self.name} ---\n{self.log.decode(errors='replace')[-3000:]}"
            if self.log
            else ""
        )

    async def end(self) -> None:
        """Kill it and whatever is below it."""
        kill_tree(self._process.pid)
        await self._process.wait()
        self._folder.cleanup()
        self._logging.cancel()
        await asyncio.gather(self._logging, return_exceptions=True)

    async def _keep_log(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self.log += chunk
            del self.log[:-KEPT_LOG_BYTES]
