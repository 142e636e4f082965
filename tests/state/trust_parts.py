"""What the machine of trust moves: workers, frames and answers on their way; what the database holds."""

from dataclasses import dataclass, field
from typing import Any

from hyrex.worker.stream.session import WorkerSession
from hyrex_broker.domain.model import LeaseRef, SessionId, TaskId, Token
from hyrex_broker.engine.liveness.heartbeats import Heartbeats
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import Introduction, ServedSession
from hyrex_broker.storage.lanes import Definition
from tests.integration.storage.stage import INFO, LEASE, Ended
from tests.state.world import World
from tests.support.assigned import AssignedRun


@dataclass
class Trust:
    """The trust cell, without shared memory."""

    until_ns: int = 0


class Link:
    """A stream that goes nowhere; the machine delivers what it wants."""

    backlogged = False

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


@dataclass
class Frame:
    """Assignments on their way."""

    receipt: int
    runs: list[AssignedRun]


@dataclass
class Answer:
    """A heartbeat's acknowledgement on its way; `over`: the session is."""

    sent_ns: int
    revoked: list[Token]
    over: bool = False


@dataclass
class Worker:
    """A worker's view, and the wires to and from its broker."""

    broker: int
    session: ServedSession
    own: WorkerSession
    trust: Trust
    executing: dict[Token, TaskId] = field(default_factory=dict)
    held: dict[Token, TaskId] = field(default_factory=dict)
    ended: dict[Token, Ended] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    beats: list[tuple[int, list[Token], int]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def introduced(held: list[LeaseRef], received_through: int) -> Introduction:
    definition = Definition("work", "default", 0, None, 5)
    return Introduction(
        info=INFO, pools={"sync": 100}, task_pools={"work": "sync"}, definitions=[definition],
        limits=[], queues=[], held=held, received_through=received_through,
    )  # fmt: skip


def heartbeats_of(world: World, number: int, registry: Sessions) -> Heartbeats:
    stage = world.stages[number]
    return Heartbeats(stage.sessions, registry, None, stage.broker, LEASE)  # type: ignore[arg-type]


async def swept(store: Any) -> list[SessionId]:
    ended_now = [await store.sweep(session_id) for session_id in (await store.expired(50))[0]]
    return [ended.session_id for ended in ended_now if ended is not None]


async def stored_tokens(database: Any) -> set[int]:
    return {row[0] for row in await database.fetch("select token from lease")}


async def stored_holders(database: Any) -> dict[TaskId, SessionId]:
    rows = await database.fetch("select task_id::text, session_id from lease")
    return {TaskId(row[0]): SessionId(row[1]) for row in rows}


async def stored_leases(database: Any) -> set[tuple[int, int]]:
    return {(row[0], row[1]) for row in await database.fetch("select session_id, token from lease")}
