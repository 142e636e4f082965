"""A cell that is away: what concerns it is UNAVAILABLE, item by item, and all else goes on."""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as pb
from tests.integration.gateway.conftest import REST, Cluster, Stubs, stubs_on
from tests.integration.gateway.sends import REJECTED, STORED, new_task, stored
from tests.integration.observing.scrape import scrape, url_of
from tests.integration.observing.test_metrics import listed, shown
from tests.integration.service.seeding import make_id
from tests.integration.service.stubs import error_info, reason_of
from tests.support.groups import grouped
from tests.support.ports import free_port
from tests.support.processes import Processes, RunningBroker, StartBroker

GONE = "gone"
AWAY = (grpc.StatusCode.UNAVAILABLE.value[0], "STORAGE_UNAVAILABLE", {"cell": f"{GONE}*"})


@pytest.fixture(scope="module")
def port() -> int:
    """Where the cell is, when it is."""
    return free_port()


@pytest.fixture(scope="module")
def gateway(cluster: Cluster, port: int) -> Iterator[RunningBroker]:
    """A gateway to a cell that is there, and to one that may be."""
    processes = Processes()
    try:
        routes = f"{GONE}*=grpc://127.0.0.1:{port};*={cluster.rest.url}"
        yield processes.gateway(routes, "--metrics", "127.0.0.1:0")
    finally:
        processes.end()


@pytest.fixture
async def beside(gateway: RunningBroker) -> AsyncIterator[Stubs]:
    """What a client calls at it."""
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield stubs_on(channel)


@contextmanager
def stopped(broker: RunningBroker) -> Iterator[None]:
    """A broker that stands still, and so says nothing at all."""
    process = psutil.Process(broker.process.pid)
    every = [process, *process.children(recursive=True)]
    for each in every:
        each.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in every:
            each.send_signal(signal.SIGCONT)


def told(error: Any) -> tuple[int, str, dict[str, str]]:
    assert error.retry_delay.ToTimedelta().total_seconds() > 0
    return error.code, error.reason, dict(error.metadata)


async def answers(stubs: Stubs, *frames: Sequence[task_pb2.NewTask]) -> dict[int, pb.StreamSubmitResponse]:
    """The answers to frames on one stream."""

    async def requests() -> AsyncIterator[pb.StreamSubmitRequest]:
        for number, tasks in enumerate(frames):
            yield pb.StreamSubmitRequest(sequence=number, groups=grouped(tasks))

    return {each.sequence: each async for each in stubs.tasks.StreamSubmit(requests())}


async def stored_at_last(stubs: Stubs, *tasks: task_pb2.NewTask) -> list[str]:
    """Ids of tasks that are stored, as soon as the gateway has found their cells."""
    request = pb.SubmitTasksRequest(tasks=tasks)
    async with asyncio.timeout(60):
        while any(each.outcome == REJECTED for each in (await stubs.tasks.SubmitTasks(request)).results):
            await asyncio.sleep(0.05)
    return [each.task_id for each in tasks]


async def test_tasks_of_other_cells_are_stored(beside: Stubs) -> None:
    tasks = [new_task(REST), new_task(GONE), new_task(REST)]
    results = (await beside.tasks.SubmitTasks(pb.SubmitTasksRequest(tasks=tasks))).results
    assert [each.outcome for each in results] == [STORED, REJECTED, STORED]
    assert (results[1].task_id, told(results[1].error)) == (tasks[1].task_id, AWAY)


async def test_frames_to_other_cells_are_answered_on_the_same_stream(beside: Stubs) -> None:
    mixed, gone, rest = [new_task(REST), new_task(GONE)], [new_task(GONE)] * 3, [new_task(REST)]
    found = await answers(beside, mixed, gone, rest)
    assert [[each.place for each in found[at].results] for at in range(3)] == [[1], [0, 1, 2], []]
    assert {told(each.result.error)[1] for at in (0, 1) for each in found[at].results} == {AWAY[1]}


async def test_a_call_for_that_cell_alone_is_unavailable(beside: Stubs) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await beside.tasks.SubmitTasks(pb.SubmitTasksRequest(tasks=[new_task(GONE)]))
    info = error_info(caught.value)
    assert (caught.value.code(), info.reason, dict(info.metadata)) == (grpc.StatusCode.UNAVAILABLE, *AWAY[1:])


async def test_what_no_other_cell_has_is_unavailable_and_never_not_found(beside: Stubs) -> None:
    (here,), nowhere = await stored(beside, new_task(REST)), make_id()
    assert (await beside.tasks.GetTask(pb.GetTaskRequest(task_id=here))).task.task_id == here
    assert await reason_of(beside.tasks.GetTask(pb.GetTaskRequest(task_id=nowhere))) == AWAY[1]
    replay = pb.ReplayTaskRequest(task_id=nowhere, new_task_id=make_id())
    assert await reason_of(beside.tasks.ReplayTask(replay)) == AWAY[1]
    cancelled = await beside.tasks.CancelTasks(pb.CancelTasksRequest(task_ids=[here]))
    assert cancelled.results[0].outcome == pb.CANCEL_OUTCOME_CANCELLED
    both = [here, nowhere]
    assert await reason_of(beside.tasks.CancelTasks(pb.CancelTasksRequest(task_ids=both))) == AWAY[1]
    assert await reason_of(beside.tasks.RetryTasks(pb.RetryTasksRequest(task_ids=both))) == AWAY[1]
    assert await reason_of(beside.tasks.DismissTasks(pb.DismissTasksRequest(task_ids=both))) == AWAY[1]


async def test_a_watch_goes_on_for_the_others_and_over_its_return(
    beside: Stubs, start_broker: StartBroker, port: int
) -> None:
    broker = start_broker(port=port)
    ids = await stored_at_last(beside, new_task(REST), new_task(GONE))
    seen: list[str] = []
    async with asyncio.timeout(120), aclosing(_watched(beside, ids)) as frames:
        while set(seen) != set(ids):
            seen += [each.task_id for each in await anext(frames)]
        broker.process.kill()
        await beside.tasks.CancelTasks(pb.CancelTasksRequest(task_ids=ids[:1]))
        assert [(each.task_id, each.status) for each in await anext(frames)] == [
            (ids[0], task_pb2.TASK_STATUS_CANCELLED)
        ]
        start_broker(port=port)
        assert [each.task_id for each in await anext(frames)] == ids[1:]


async def _watched(stubs: Stubs, ids: Sequence[str]) -> AsyncGenerator[Sequence[task_pb2.Task], None]:
    call = stubs.tasks.WatchTasks(pb.WatchTasksRequest(task_ids=ids))
    try:
        async for frame in call:
            yield frame.tasks
    finally:
        call.cancel()


async def test_a_cell_that_says_nothing_is_answered_for_until_it_is_back(
    beside: Stubs, gateway: RunningBroker, start_broker: StartBroker, port: int
) -> None:
    """Its frames are answered without it, so that those for other cells are read; what it has stored after
    all is recognised."""
    broker = start_broker(port=port)
    await stored_at_last(beside, new_task(REST), new_task(GONE))
    frames = [[new_task(GONE)] for _ in range(40)]
    with stopped(broker):
        found = await answers(beside, *frames, [new_task(REST)])
        assert [len(found[at].results) for at in range(41)] == [1] * 40 + [0]
        assert told(found[0].results[0].result.error) == AWAY
        page = scrape(url_of(gateway.process))
        ups = [page.value("hyrex_gateway_cell_up", cell=cell) for cell in (f"{GONE}*", "*")]
        assert ups == [0, 1], "whatever is asked of it would wait again"
        named = {name: kind for name, kind in listed().items() if name.startswith("hyrex_gateway_")}
        assert {name: kind for name, kind in shown(page).items() if "gateway" in name} == named
        assert page.value("hyrex_gateway_away_total", cell=f"{GONE}*") >= 40
    async with asyncio.timeout(60):
        while (again := await answers(beside, *frames))[0].results and again[0].results[0].result.error.code:
            assert told(again[0].results[0].result.error) == AWAY
    outcomes = {each.result.outcome for answer in again.values() for each in answer.results}
    assert outcomes <= {pb.SUBMIT_OUTCOME_REPEATED}
