"""Serves calls with the parts of one broker, until it is told to stop or begins anew; then ends in order."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

from hyrex_broker import open_files
from hyrex_broker.config import BrokerConfig
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.hangup import stop_signals
from hyrex_broker.lasting import Enduring
from hyrex_broker.loops import either, end_loops, rerun_if_it_fails
from hyrex_broker.parts import Engine
from hyrex_broker.service.server import BuiltServer, Servicers, build_server
from hyrex_broker.service.work import WorkEngine
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.replica import ReadFrom

_DRAIN_FLUSH_S: Final = 0.2
_GRACE_S: Final = 2.0
_ANEW_GRACE_S: Final = 0.1
"""For streams to end in order. Sends have to succeed within 3 s of a promotion."""


@dataclass(frozen=True, slots=True)
class Served:
    """What is served, with all that is made anew when a broker begins anew."""

    config: BrokerConfig
    source: ReadFrom
    broker_id: BrokerId
    engine: Engine
    work: WorkEngine
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this serving ends, to stop or to begin anew."""

    @property
    def database(self) -> Database:
        """The primary."""
        return self.source.database


async def serve(lasting: Enduring, served: Served, servicers: Servicers) -> None:
    """Serve until it is time to stop, or to begin anew. Raises StorageUnavailable or BindError."""
    built = await _listening(lasting, served, servicers)
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, lasting.stop.set)
    async with asyncio.TaskGroup() as group:
        ending, runs = asyncio.Event(), (*served.engine.loops(), open_files.watch)
        loops = [group.create_task(rerun_if_it_fails(run, ending)) for run in runs]
        try:
            print(f"broker ready: listening on {served.config.host}:{built.port}", flush=True)
            await either((lasting.stop, lasting.timeline.is_over))
            if lasting.timeline.is_over.is_set():
                # Statements that are in flight on a server of the past would be waited for.
                served.database.terminate()
        finally:
            await _drain(served, built, begins_anew=lasting.timeline.is_over.is_set())
            ending.set()
            await end_loops(loops, served.database)


async def _listening(lasting: Enduring, served: Served, servicers: Servicers) -> BuiltServer:
    """A server that answers. Nothing that may fail lies between its bind and its start: one that is bound and
    never started keeps its port, and answers nobody, for as long as the process lives."""
    config, database = served.config, served.database
    presence = served.engine.presence
    built = build_server(config, servicers, served.engine.tokens, lambda: presence.carrying)
    try:
        await built.server.start()
        lasting.port = built.port
        database.availability.on_change = built.health.reachable
        if built.port != config.port:  # the system chose it
            await BrokerStore(database).moved(served.broker_id, f"{config.host}:{built.port}")
    except BaseException:
        await built.server.stop(None)
        raise
    return built


async def _drain(served: Served, built: BuiltServer, *, begins_anew: bool) -> None:
    """Hand the workers over: report NOT_SERVING, send Drain, send pending acknowledgements, then stop. One
    that begins anew waits for no call: nothing can be stored for any of them."""
    served.leaving.set()
    built.health.drain()
    served.work.draining = True
    engine, drain_timeout_s = served.engine, served.config.drain_timeout_s
    workers = len(engine.sessions.by_id)
    jitter_s = min(1.0, workers / 100) * random.uniform(0.5, 1.0)
    engine.sessions.drain_all(drain_timeout_s, jitter_s)
    if workers and not begins_anew:
        await asyncio.sleep(_DRAIN_FLUSH_S)
    grace_s = min(drain_timeout_s, _GRACE_S + jitter_s) if workers else 0.5
    await built.server.stop(_ANEW_GRACE_S if begins_anew else grace_s)
