"""The bench: a scripted broker and real worker processes against it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.support.columns import Assignment
from tests.support.process import TIED
from tests.support.scripted_broker import ScriptedBroker, assignment, scripted_broker
from tests.support.trees import running

ROOT = Path(__file__).parents[3]
APP = "tests.integration.worker.bench_app:app"
OUTPUT_WITHIN_S = 5.0


@dataclass
class Worker:
    """A real worker, its output as it comes."""

    process: asyncio.subprocess.Process
    output: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Gather the output."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output.append(line.decode().rstrip())
            sys.stdout.write(f"worker| {line.decode()}")

    async def printed(self, text: str, within_s: float = 60.0) -> str:
        """Wait for a line that contains the text."""
        async with asyncio.timeout(within_s):
            while not (found := [line for line in self.output if text in line]):
                await asyncio.sleep(0.01)
        return found[0]

    async def exit_status(self, within_s: float = 60.0) -> int:
        """Wait for its end."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    def stream_process(self) -> psutil.Process:
        """The process that holds the stream."""
        return running(self.process.pid, "hyrex.worker.stream.process")[0]

    def children(self) -> list[psutil.Process]:
        """Those that run user code."""
        return running(self.process.pid, "hyrex.worker.child.main")

    def stop(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)


@dataclass
class Bench:
    """What a test has."""

    broker: ScriptedBroker
    journal_path: Path
    workers: list[Worker] = field(default_factory=list)

    async def start(
        self,
        *args: str,
        target: str = APP,
        env: dict[str, str] | None = None,
    ) -> Worker:
        """Start a worker; one child of one thread and short grace unless told otherwise."""
        defaults = [] if "-p" in args else ["-p", "1"]
        defaults += [] if "--grace" in args else ["--grace", "1"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(TIED), str(os.getpid()), sys.executable),
            *("-m", "hyrex.worker", target, "--broker-url", self.broker.url, *defaults, *args),
            cwd=ROOT,
            env={
                **os.environ,
                "BENCH_JOURNAL": str(self.journal_path),
                "PYTHONPATH": str(ROOT),
                **(env or {}),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        worker = Worker(process)
        worker.reader = asyncio.create_task(worker.read())
        self.workers.append(worker)
        return worker

    async def ready(self, *args: str, target: str = APP) -> Worker:
        """Start a worker and wait until all its children are ready."""
        worker = await self.start(*args, target=target)
        await worker.printed("worker ready")
        processes = int(args[args.index("-p") + 1]) if "-p" in args else 1
        threads = int(args[args.index("-t") + 1]) if "-t" in args else 1
        await self.broker.until(
            lambda: (
                self.broker.capacity.get("sync", 0) >= processes * threads
                and self.broker.capacity.get("async", 0) > 0
            )
        )
        return worker

    async def fetching(self, *args: str) -> Worker:
        """Start a worker that has learnt that runs are short: nothing is fetched ahead before."""
        worker = await self.ready(*args)
        run = assignment("add", {"a": 1, "b": 1})
        await self.broker.assign(run)
        await self.broker.outcome(run)
        return worker

    async def complete(self, run: Assignment) -> None:
        """See a run through, handing it out again when it is given back, as a broker would."""
        while (told := await self.broker.outcome(run)).HasField("released"):
            assert not told.released.started
            del self.broker.outcomes[run.token]
            await self.broker.until(lambda: self.broker.capacity["sync"] > 0)
            await self.broker.assign(run)
        assert told.HasField("completed"), told

    def journal(self) -> list[str]:
        """What tasks noted."""
        return self.journal_path.read_text().splitlines() if self.journal_path.exists() else []

    async def noted(self, text: str, times: int = 1, within_s: float = 60.0) -> str:
        """Wait until a task notes something."""
        async with asyncio.timeout(within_s):
            while len(found := [line for line in self.journal() if text in line]) < times:
                await asyncio.sleep(0.01)
        return found[-1]

    def result(self, token: int) -> object:
        """The value that a run returned."""
        return json.loads(self.broker.outcomes[token].completed.result)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A scripted broker; workers that are started end with the test."""
    async with scripted_broker() as broker:
        made = Bench(broker, tmp_path / "journal")
        yield made
        for worker in made.workers:
            await _end(worker)


async def _end(worker: Worker) -> None:
    try:
        family = psutil.Process(worker.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    if worker.process.returncode is None:
        worker.process.kill()
    await worker.process.wait()
    assert worker.reader is not None
    # A process that user code has just started may hold the pipe longer; its output is of no interest.
    await asyncio.wait({worker.reader}, timeout=OUTPUT_WITHIN_S)
    worker.reader.cancel()
