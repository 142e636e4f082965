"""Where one scenario is played: brokers, the proxy in front of them, agents, variables."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

from hyrex.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
)
from tests.conformance.agent_process import AgentProcess
from tests.conformance.cluster import Cluster, stop
from tests.conformance.gate import Gate
from tests.conformance.languages import Language
from tests.conformance.tap import Falsify, Tap
from tests.conformance.task_json import task_json
from tests.support.processes import RunningBroker

MIB: Final = 1024 * 1024
OPTIONS: Final = (("grpc.max_receive_message_length", 64 * MIB), ("grpc.use_local_subchannel_pool", 1))
CALL_WITHIN_S: Final = 10.0
_numbers = itertools.count(1)


@dataclass
class Door:
    """One agent's way to the brokers."""

    tap: Tap
    gate: Gate

    @classmethod
    async def open(cls, upstream: str, falsify: Falsify | None, gateway: str) -> "Door":
        """A gate and a tap behind it."""
        tap = Tap(upstream, falsify=falsify, gateway=gateway)
        await tap.start()
        gate = Gate(tap.port)
        await gate.start()
        return cls(tap, gate)

    async def close(self) -> None:
        """Cut both."""
        await self.gate.stop()
        await self.tap.stop()


@dataclass
class Stage:
    """Everything a scenario's steps act on."""

    language: Language
    brokers: list[RunningBroker]
    owned: bool
    token: str = ""
    falsify: Falsify | None = None
    gateway: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    agents: dict[str, AgentProcess] = field(default_factory=dict)
    doors: dict[str, Door] = field(default_factory=dict)
    own_token: dict[str, str] = field(default_factory=dict)
    _channel: grpc.aio.Channel | None = None
    _watched: int = 0

    @classmethod
    async def set(
        cls, cluster: Cluster, language: Language, own: int, token: str, falsify: Falsify | None
    ) -> "Stage":
        """Brokers of its own where it wants some (`own`), or a token."""
        args = ("--token", token) if token else ()
        owned = own > 0 or bool(token)
        brokers = await cluster.start(max(own, 1), args) if owned else await cluster.shared()
        gateway = "" if owned else await cluster.gateway()
        stage = cls(language, brokers, owned, token, falsify, gateway)
        stage.variables["queue"] = f"{language.name}-{os.getpid()}-{next(_numbers)}"
        return stage

    async def agent(self, name: str) -> AgentProcess:
        """The agent of this name, started at first use with a way to the brokers of its own."""
        if name not in self.agents:
            door = await self.door(name)
            env = {"HYREX_BROKER_URL": f"grpc://127.0.0.1:{door.gate.port}"}
            env["HYREX_TOKEN"] = self.own_token.get(name, self.token)
            if not env["HYREX_TOKEN"]:
                del env["HYREX_TOKEN"]
            self.agents[name] = await AgentProcess.start(name, self.language.agent, env)
        return self.agents[name]

    async def door(self, name: str) -> Door:
        """The proxy in front of one agent."""
        if name not in self.doors:
            self.doors[name] = await Door.open(self.brokers[0].address, self.falsify, self.gateway)
        return self.doors[name]

    def channel(self) -> grpc.aio.Channel:
        """Straight to a broker that lives: what is recorded, without any proxy."""
        living = next(at for at, broker in enumerate(self.brokers) if broker.process.running)
        if self._channel is None or living != self._watched:
            self._watched = living
            self._channel = grpc.aio.insecure_channel(self.brokers[living].address, options=OPTIONS)
        return self._channel

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    async def recorded(self, task_id: str) -> dict[str, Any]:
        """A task as the broker has it."""
        stub = task_service_pb2_grpc.TaskServiceStub(self.channel())
        request = task_service_pb2.GetTaskRequest(task_id=task_id)
        get: Any = stub.GetTask
        answer = await get(request, timeout=CALL_WITHIN_S, metadata=self._metadata)
        return task_json(answer.task)

    async def drain_worker(self, session_id: str) -> None:
        """As an operator does."""
        stub = admin_service_pb2_grpc.AdminServiceStub(self.channel())
        request = admin_service_pb2.DrainWorkerRequest(session_id=session_id)
        drain: Any = stub.DrainWorker
        await drain(request, timeout=CALL_WITHIN_S, metadata=self._metadata)

    async def limit_waiting(self, queue: str, most: int) -> None:
        """As an operator does; 0: without limit."""
        stub = queue_service_pb2_grpc.QueueServiceStub(self.channel())
        request = queue_service_pb2.UpdateQueueRequest(name=queue, max_waiting=most)
        update: Any = stub.UpdateQueue
        await update(request, timeout=CALL_WITHIN_S, metadata=self._metadata)

    async def make_token(self, name: str, scopes: Sequence[str], queues: Sequence[str]) -> str:
        """As an admin does."""
        stub = admin_service_pb2_grpc.AdminServiceStub(self.channel())
        request = admin_service_pb2.CreateTokenRequest(
            name=f"{name}-{os.urandom(4).hex()}",
            scopes=[admin_service_pb2.TokenScope.Value(f"TOKEN_SCOPE_{scope}") for scope in scopes],
            queue_patterns=queues,
        )
        create: Any = stub.CreateToken
        return str((await create(request, timeout=CALL_WITHIN_S, metadata=self._metadata)).secret)

    async def clear(self) -> None:
        """End everything that was started here."""
        await asyncio.gather(*(agent.end() for agent in self.agents.values()))
        for door in self.doors.values():
            await door.close()
        if self._channel is not None:
            await self._channel.close()
        if self.owned:
            await stop(self.brokers)
