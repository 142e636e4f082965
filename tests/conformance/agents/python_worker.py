"""The worker of the Python agent: `python -m hyrex.worker` over the module of behaviours."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.conformance.agents.behaviours import BEHAVIOURS, EXECUTED, TASKS
from tests.conformance.killing import kill_tree

READY = b"worker ready: "
READY_WITHIN_S = 20.0


class PythonWorker:
    """One worker process with all that is below it."""

    def __init__(self, executed: Path, process: asyncio.subprocess.Process) -> None:
        self._executed = executed
        self._process = process
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: dict[str, Any]) -> "PythonWorker":
        """Start it and wait until it is welcome. Raises: LookupError for a behaviour it has not."""
        unknown = sorted(set(command["tasks"].values()) - BEHAVIOURS.keys())
        if unknown:
            raise LookupError(unknown[0])
        handle, path = tempfile.mkstemp(prefix="executed-")
        os.close(handle)
        arguments = ["--name", command["name"], "--prefetch", "0", "--drain-timeout", "20"]
        arguments += ["--parent", str(os.getpid())]
        arguments += ["-p", "1", "--async-concurrency", str(command["capacity"])]
        for queue in command["queues"]:
            arguments += ["-q", queue]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hyrex.worker", "tests.conformance.agents.behaviours:app", *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {TASKS: json.dumps(command["tasks"]), EXECUTED: path},
        )  # fmt: skip
        worker = cls(Path(path), process)
        async with asyncio.timeout(READY_WITHIN_S):
            await worker._ready.wait()
        return worker

    @property
    def running(self) -> bool:
        """True if it has not left."""
        return self._process.returncode is None

    @property
    def executed(self) -> list[str]:
        """Ids of tasks in the order in which they began."""
        return self._executed.read_text().split()

    async def drain(self) -> None:
        """Ask it to finish and leave; wait for that."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        await self._process.wait()

    async def stop(self) -> None:
        """End it as a crash would."""
        kill_tree(self._process.pid)
        await self._process.wait()

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.stop()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._executed.unlink(missing_ok=True)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            sys.stderr.write(line.decode(errors="replace"))
            if READY in line:
                self._ready.set()
