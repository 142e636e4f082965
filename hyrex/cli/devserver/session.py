"""One life of `hyrex dev`: Postgres, a broker, a worker that follows the code; then the end of all three."""

import asyncio
import os
import re
import signal
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from hyrex.cli.devserver import beside
from hyrex.cli.devserver.child import ChildEnded, DevProcess, Recipe
from hyrex.cli.devserver.console import say, warn
from hyrex.cli.devserver.database import DevDatabase
from hyrex.cli.devserver.keeper import READY_WITHIN_S, Keeper
from hyrex.cli.devserver.reload import Reloader
from hyrex.cli.devserver.target import check
from hyrex.cli.errors import CommandError, libraries_missing

BROKER_READY: Final = re.compile(r"broker ready: listening on (\S+)")
WORKER_READY: Final = re.compile(r"worker ready: (?P<name>[^,]+), (?P<serves>.*)")
WORKER_LEAVES_S: Final = 0.9
BROKER_LEAVES_S: Final = 0.5
DASHBOARD_LEAVES_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What `hyrex dev` was asked for."""

    target: str
    port: int
    data_dir: Path
    processes: int
    queues: tuple[str, ...]
    reload: bool
    database_url: str | None = None
    schema: str | None = None
    dashboard: int = 0


class DevSession:
    """Starts everything in order, keeps it running, ends it in reverse order within two seconds."""

    def __init__(self, options: DevOptions) -> None:
        self._options = options
        self._database = DevDatabase(options.data_dir, options.database_url)
        self._for_broker: dict[str, str] = {}
        self._leaving: tuple[tuple[Keeper, float], ...] = ()
        self._stop = asyncio.Event()
        self._failure: CommandError | None = None

    async def run(self) -> None:
        """Run until Ctrl-C or SIGTERM. Raises: CommandError where it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            async with asyncio.TaskGroup() as relays:
                try:
                    await self._live(relays)
                finally:
                    await self._end_children()
        finally:
            self._database.stop()
        if self._failure is not None:
            raise self._failure

    async def _live(self, relays: asyncio.TaskGroup) -> None:
        """Start and keep everything until told to stop, or until it cannot start."""
        async with asyncio.TaskGroup() as parts:
            until_stop = parts.create_task(self._stop.wait())
            life = parts.create_task(self._start_and_keep(relays))
            await asyncio.wait({until_stop, life}, return_when=asyncio.FIRST_COMPLETED)
            life.cancel()
            until_stop.cancel()

    async def _start_and_keep(self, relays: asyncio.TaskGroup) -> None:
        broker, worker = self._keepers(relays)
        dashboard = beside.dashboard_keeper(
            self._options.dashboard, f"127.0.0.1:{self._options.port}", relays
        )
        if dashboard is not None:
            self._leaving = ((dashboard, DASHBOARD_LEAVES_S), *self._leaving)
        reloader = Reloader(self._options.target, worker, Path.cwd(), self._running_of)
        async with asyncio.TaskGroup() as parts:
            following = parts.create_task(reloader.run()) if self._options.reload else None
            try:
                await self._start(broker, worker)
            except CommandError as error:
                self._failure = error
                if following is not None:
                    following.cancel()
                return
            reloader.begin()
            parts.create_task(broker.run())
            parts.create_task(worker.run())
            if dashboard is not None:
                parts.create_task(beside.keep(dashboard))

    async def _start(self, broker: Keeper, worker: Keeper) -> None:
        began = time.monotonic()
        target = self._options.target
        require_broker_libraries()
        require_free_port(self._options.port)
        broken = await check(target)
        if broken is not None and not broken.traceback:
            raise CommandError(str(broken), status=2)
        self._for_broker["HYREX_DATABASE_URL"] = self._database.start()
        self._for_broker["HYREX_DATABASE_URL_FILE"] = ""  # as good as not set: else the broker has two
        if self._options.schema is not None:
            self._for_broker["HYREX_SCHEMA"] = self._options.schema
        await started(broker)
        if self._options.database_url is None:
            for name in filter(os.environ.get, ("HYREX_DATABASE_URL", "HYREX_DATABASE_URL_FILE")):
                say(f"{name} is set, and not used here; --database-url would use another database")
        say(f"{self._database} | broker grpc://localhost:{self._options.port}")
        if broken is not None:
            warn(f"{broken.traceback.rstrip()}\n{broken}; mend it and save: the worker starts then")
            return
        child = await started(worker)
        found = await child.until_ready(READY_WITHIN_S)
        say(f"worker {target} {found['serves']} | {self._ready_text(began)}")

    def _ready_text(self, began: float) -> str:
        watching = "; watching *.py" if self._options.reload else ""
        return f"ready in {time.monotonic() - began:.1f} s{watching}"

    def _keepers(self, relays: asyncio.TaskGroup) -> tuple[Keeper, Keeper]:
        options = self._options
        address = f"127.0.0.1:{options.port}"
        patterns = [part for queue in options.queues for part in ("-q", queue)]
        run_worker = ["-m", "hyrex.worker", options.target, "-p", str(options.processes), *patterns]
        run_broker = ["-m", "hyrex_broker", "--listen", address]
        if options.database_url is None:
            run_broker.append("--private-database")
        broker = Keeper(lambda: Recipe("broker", run_broker, self._for_broker, BROKER_READY), relays)
        for_worker = {"HYREX_BROKER_URL": f"grpc://{address}", "HYREX_CELLS": ""}  # its tasks send here too
        if not os.environ.get("HYREX_LOG_LEVEL"):
            for_worker["HYREX_LOG_LEVEL"] = "debug"  # the traceback of each failed run
        worker = Keeper(lambda: Recipe("worker", run_worker, for_worker, WORKER_READY), relays)
        self._leaving = ((worker, WORKER_LEAVES_S), (broker, BROKER_LEAVES_S))
        return broker, worker

    def _running_of(self, worker: DevProcess) -> int:
        """How many runs the broker knows a worker to hold."""
        from hyrex.cli.worker import sessions

        name = worker.name
        try:
            found = sessions(f"grpc://127.0.0.1:{self._options.port}", ended=False)
        except CommandError:
            return 0
        return sum(session.running for session in found if session.worker_name == name)

    async def _end_children(self) -> None:
        """The worker first, told twice so that it gives its runs back at once; then the broker."""
        for keeper, patience_s in self._leaving:
            if keeper.child is not None:
                keeper.child.terminate()
                if patience_s == WORKER_LEAVES_S:
                    await asyncio.sleep(0.05)
                    keeper.child.terminate()
                await keeper.child.ended_within(patience_s)
                await keeper.child.kill()


async def started(keeper: Keeper) -> DevProcess:
    """Start a keeper's child. Raises: CommandError; the child's own output says more."""
    try:
        return await keeper.start()
    except (ChildEnded, TimeoutError) as error:
        raise CommandError(f"{error}; its output is above") from None


def require_broker_libraries() -> None:
    """Raises: CommandError where only the SDK is installed."""
    if find_spec("asyncpg") is None:
        raise libraries_missing("embedded")


def require_free_port(port: int) -> None:
    """Raises: CommandError where something listens on the port already."""
    if not beside.is_free(port):
        raise CommandError(
            f"port {port} is in use, perhaps by another `hyrex dev`. End that one, or use another port: "
            f"`hyrex dev --port {port + 1}` and HYREX_BROKER_URL=grpc://localhost:{port + 1}."
        )
