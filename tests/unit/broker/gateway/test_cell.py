"""One cell as a gateway asks it: a real server of gRPC that answers as these tests have it."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from dataclasses import replace

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2_grpc

from hyrex.cells import parse_cells
from hyrex.v1 import task_pb2, task_service_pb2_grpc
from hyrex.v1 import task_service_pb2 as pb
from hyrex_broker.domain.errors import CellAway, FlowControl
from hyrex_broker.domain.model import TaskId
from hyrex_broker.gateway import connections
from hyrex_broker.gateway.cell import GatewayCell, Passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.submits import CellStream
from hyrex_broker.gateway.watching import WatchOfCells
from hyrex_broker.service.health import HealthServicer
from tests.integration.service.seeding import make_id

GET, WATCH = method("TaskService", "GetTask"), method("TaskService", "WatchTasks")
CALLS_AT_A_TIME = 4
SHARE = 100
AT_ONCE = Passed((), 0.2)
PATIENT = Passed((), 60.0)


class Broker(task_service_pb2_grpc.TaskServiceServicer):
    """Answers all but submits, of which it reads nothing."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.submits_begun = asyncio.Event()
        self.submits_ended = asyncio.Event()

    async def GetTask(  # noqa: N802
        self, request: pb.GetTaskRequest, context: object
    ) -> pb.GetTaskResponse:
        return pb.GetTaskResponse(task=task_pb2.Task(task_id=request.task_id))

    async def WatchTasks(  # noqa: N802
        self, request: pb.WatchTasksRequest, context: object
    ) -> AsyncIterator[pb.WatchTasksResponse]:
        yield pb.WatchTasksResponse(missing=self.missing)
        yield pb.WatchTasksResponse(tasks=[task_pb2.Task(task_id=each) for each in request.task_ids])
        await asyncio.Event().wait()

    async def StreamSubmit(  # noqa: N802
        self, request_iterator: object, context: object
    ) -> AsyncIterator[pb.StreamSubmitResponse]:
        self.submits_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.submits_ended.set()
        yield pb.StreamSubmitResponse()


@pytest.fixture
def scripted() -> Broker:
    return Broker()  # type: ignore[abstract]  # it plays three of its calls


@pytest.fixture
async def cell(scripted: Broker) -> AsyncIterator[GatewayCell]:
    """A gateway's cell with this broker, which serves few calls of a connection at a time."""
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", CALLS_AT_A_TIME)])
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(scripted, server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    (route,) = parse_cells(f"*=grpc://127.0.0.1:{port}").cells
    made = GatewayCell(route, SHARE)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        await server.stop(None)


async def test_calls_that_last_take_no_places_of_others(
    cell: GatewayCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or watches of one caller would make the cell silent for all."""
    monkeypatch.setattr(connections, "CALLS_OF_A_CONNECTION", CALLS_AT_A_TIME // 2)
    async with asyncio.timeout(60):
        watches = [cell.watch(WATCH, pb.WatchTasksRequest(), PATIENT) for _ in range(2 * CALLS_AT_A_TIME)]
        for each in watches:
            await anext(each)
        answer = await cell.ask(GET, pb.GetTaskRequest(task_id="a"), PATIENT)
        assert answer.task.task_id == "a"
        for each in watches:
            await each.aclose()


async def test_calls_that_last_are_bounded(cell: GatewayCell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CALLS_OF_A_CONNECTION", 1)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    with ExitStack() as held:
        first, second = [held.enter_context(cell.connections.lasting()) for _ in range(2)]
        assert len({first, second, cell.connections.short}) == 3
        with pytest.raises(FlowControl, match="2 watches and streams of submits to one cell"):
            held.enter_context(cell.connections.lasting())
    with cell.connections.lasting() as again:
        assert again is first, "those that ended leave their places"


async def test_a_stream_that_ends_gives_back_the_room_of_what_nobody_answers(cell: GatewayCell) -> None:
    """The answering of a frame may be cancelled before it has begun, and then ends without a word."""
    stream = CellStream(cell, AT_ONCE)
    for size in (60, 30):
        await stream.enter(size, 0.0)
    stream.leave(60)
    assert cell.room.taken == 30
    stream.close()
    assert cell.room.taken == 0
    await CellStream(cell, AT_ONCE).enter(SHARE, 0.0)


async def test_frames_that_nobody_waits_for_are_not_kept_for_a_cell_that_does_not_read(
    cell: GatewayCell, scripted: Broker
) -> None:
    """They would be kept in the stream's queue, and no longer be counted."""
    stream = CellStream(cell, AT_ONCE)
    await cell.ask(GET, pb.GetTaskRequest(task_id="a"), PATIENT)
    within_s = 0.1
    async with asyncio.timeout(60):
        while not scripted.submits_begun.is_set():
            within_s *= 2
            with pytest.raises(CellAway):
                await stream.store(b"", within_s)
        await scripted.submits_ended.wait()
    stream.close()


async def test_a_watch_goes_on_where_a_cell_lacks_what_nobody_asked_for(
    cell: GatewayCell, scripted: Broker
) -> None:
    scripted.missing = [make_id()]
    task_id = TaskId(make_id())
    watch = WatchOfCells([cell], [task_id], PATIENT)
    async with asyncio.timeout(60), aclosing(watch.frames(asyncio.Event())) as frames:
        assert [each.task_id for each in (await anext(frames)).tasks] == [task_id]


async def test_a_watch_ends_with_whatever_error_a_reader_has(
    cell: GatewayCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect, say: the caller would wait for ever."""

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(cell, "watch", broken)
    watch = WatchOfCells([cell], [TaskId(make_id())], PATIENT)
    async with asyncio.timeout(60), aclosing(watch.frames(asyncio.Event())) as frames:
        with pytest.raises(RuntimeError, match="a defect"):
            await anext(frames)


async def test_an_answer_that_cannot_be_read_is_none(cell: GatewayCell) -> None:
    wrong = replace(GET, decode=int)
    with pytest.raises(CellAway, match="answers what cannot be read"):
        await cell.ask(wrong, pb.GetTaskRequest(task_id="a"), PATIENT)


async def test_names_that_no_queue_has_are_not_remembered() -> None:
    """Each might have 16 MiB."""

    class Name(str):
        __slots__ = ("__weakref__",)

    cells = GatewayCells(parse_cells("video*=grpc://127.0.0.1:1;*=grpc://127.0.0.1:2"))
    name = Name("video" * 60)
    gone = weakref.ref(name)
    assert cells.of(name) is cells.all[1]
    del name
    assert gone() is None
