"""Which questions a gateway's door asks of cells: one for each token at a time, and few for strangers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2_grpc

from hyrex.cells import parse_cells
from hyrex.v1 import admin_service_pb2 as admin
from hyrex_broker.domain.errors import FlowControl
from hyrex_broker.gateway import doors
from hyrex_broker.gateway.doors import TokenDoor
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.service.errors import Relayed
from hyrex_broker.service.health import HealthServicer

PATH = "/hyrex.v1.AdminService/GetCaller"
STRANGER, SENDER, BUSY = "a-stranger", "a-sender", "a-token-of-a-busy-moment"


class Broker(grpc.GenericRpcHandler):
    """Knows every token; is asked for one at a time, and answers for strangers when `gate` is open."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()

    def service(self, call: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._caller) if call.method == PATH else None

    async def _caller(self, request: bytes, context: Any) -> bytes:
        token = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        self.asked.append(token)
        if token == BUSY:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
        if token != SENDER:
            await self.gate.wait()
        return admin.GetCallerResponse(enforced=True).SerializeToString()


@pytest.fixture
def scripted() -> Broker:
    return Broker()


@pytest.fixture
async def door(scripted: Broker) -> AsyncIterator[TokenDoor]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((scripted,))
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    cells = GatewayCells(parse_cells(f"*=grpc://127.0.0.1:{port}"))
    running = asyncio.create_task(cells.all[0].run())
    try:
        yield TokenDoor(cells)
    finally:
        scripted.gate.set()
        running.cancel()
        await asyncio.wait([running])
        await server.stop(None)


async def admit(door: TokenDoor, token: str) -> None:
    """Let a call in that shows this token."""
    doors._shown.set(token)
    async with asyncio.timeout(60):
        await door.admit(frozenset(), None)  # type: ignore[arg-type]  # the door does not look at the call


async def test_calls_of_one_token_share_a_question(door: TokenDoor, scripted: Broker) -> None:
    """However many there are at a time; some leave before it is answered."""
    calls = [asyncio.create_task(admit(door, STRANGER)) for _ in range(doors.MOST_ASKING + 10)]
    await asyncio.sleep(0)
    calls.pop(0).cancel()
    scripted.gate.set()
    await asyncio.gather(*calls)
    assert scripted.asked == [STRANGER]


async def test_strangers_keep_out_no_token_that_was_good(
    door: TokenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "KNOWN_FOR_S", 0.0)
    monkeypatch.setattr(doors, "MOST_ASKING", 1)
    monkeypatch.setattr(doors, "ANSWER_WITHIN_S", 3600.0)
    await admit(door, SENDER)
    asking = asyncio.create_task(admit(door, STRANGER))
    await asyncio.sleep(0)
    with pytest.raises(FlowControl, match="too many unknown tokens"):
        await admit(door, "another")
    await admit(door, SENDER)
    asking.cancel()
    await asyncio.wait([asking])


async def test_a_cell_that_refuses_for_another_reason_says_nothing_about_the_token(door: TokenDoor) -> None:
    """A client gives up for good where its token is refused."""
    with pytest.raises(Relayed, match="later"):
        await admit(door, BUSY)
