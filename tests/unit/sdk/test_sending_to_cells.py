"""One process and two cells: tasks go to their queue's cell and are found there; none harms another."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from hyrex import (
    BrokerUnavailable,
    SendManyFailed,
    SendRejected,
    SubmitUnknown,
    TaskNotFound,
    get_task,
    get_task_async,
    send_many,
    send_many_async,
    wait_all,
    wait_all_async,
)
from hyrex.call import TaskCall
from hyrex.client import close_client
from hyrex.client.homes import Homes
from hyrex.v1 import task_pb2
from tests.support.scripted_tasks import ScriptedTasks, Server, rejected
from tests.unit.sdk.sent_tasks import add, unavailable

video = add.with_config(queue="video-hd")
PATIENT = "60"
BRIEF = "0.3"
BEARABLE = "3"  # within which a new client has connected to a cell that is there


@dataclass
class Pair:
    """Two cells: one for queues that begin with video, and one for the others."""

    video: ScriptedTasks
    rest: ScriptedTasks
    servers: tuple[Server, Server]

    @property
    def routes(self) -> str:
        """What HYREX_CELLS says."""
        return f"video*={self.servers[0].url};*={self.servers[1].url}"


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    with ExitStack() as stack:
        tasks = ScriptedTasks(), ScriptedTasks()
        servers = Server(tasks[0]), Server(tasks[1])
        for server in servers:
            stack.callback(server.stop)
        made = Pair(*tasks, servers)
        monkeypatch.setenv("HYREX_CELLS", made.routes)
        monkeypatch.setenv("HYREX_SEND_TIMEOUT", PATIENT)
        monkeypatch.delenv("HYREX_TOKEN", raising=False)
        yield made
        close_client()
        for each in tasks:
            each.gate.set()


def ids(tasks: ScriptedTasks) -> list[str]:
    """What a cell was sent."""
    return [task.task_id for task in tasks.submitted]


def state(task_id: object, status: int = task_pb2.TASK_STATUS_COMPLETED) -> task_pb2.Task:
    """A task as its cell knows it."""
    return task_pb2.Task(task_id=str(task_id), name="add", status=status)  # type: ignore[arg-type]


def test_a_task_goes_to_the_cell_of_its_queue(pair: Pair) -> None:
    one, other = video.send(1), add.send(2)
    assert (ids(pair.video), ids(pair.rest)) == ([str(one.id)], [str(other.id)])


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_many_tasks_go_to_their_cells_and_keep_their_order(pair: Pair, is_async: bool) -> None:
    pair.video.answer = rejected("INVALID_FIELD")
    calls = [(video if n % 3 == 0 else add).call(n) for n in range(30)]
    with pytest.raises(SendManyFailed) as caught:
        asyncio.run(_sent(calls)) if is_async else send_many(calls)
    assert list(caught.value.failures) == list(range(0, 30, 3))
    sent = [str(handle.id) for handle in caught.value.handles]
    assert ids(pair.video) == sent[::3]
    assert ids(pair.rest) == [each for at, each in enumerate(sent) if at % 3]


async def _sent(calls: list[TaskCall[int]]) -> object:
    return await send_many_async(calls)


def test_a_silent_cell_delays_no_other(pair: Pair) -> None:
    """Its callers wait for it, as many as they are; the other cell's answers come meanwhile."""
    add.send(0)
    pair.video.gate.clear()
    with ThreadPoolExecutor(21) as pool:
        waiting: list[Future[Any]] = [pool.submit(video.send, n) for n in range(10)]
        waiting += [pool.submit(lambda: send_many([video.call(0), add.call(0)])) for _ in range(10)]
        others = pool.submit(lambda: [add.send(1) for _ in range(20)])
        try:
            assert len(others.result(60)) == 20
            assert not any(each.done() for each in waiting)
        finally:
            pair.video.gate.set()
        assert all(each.result(60) for each in waiting)


def test_a_cell_that_is_away_is_named_and_the_others_answers_are_kept(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    add.send(0)
    pair.servers[0].stop()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", BEARABLE)
    with pytest.raises(SendManyFailed) as caught:
        send_many([video.call(1), add.call(2)])
    assert list(caught.value.failures) == [0]
    away = caught.value.failures[0]
    assert isinstance(away, BrokerUnavailable)
    assert str(away).startswith(f"cell 'video*': no answer from {pair.servers[0].url} within {BEARABLE} s")
    assert "'*'" not in str(away)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_task_of_another_process_is_found_in_its_cell(pair: Pair, is_async: bool) -> None:
    for tasks in (pair.video, pair.rest):
        tasks.put(state(task_id := uuid4()))
        found = asyncio.run(get_task_async(task_id)) if is_async else get_task(task_id)
        assert found.status == "completed"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_task_is_not_found_only_when_every_cell_has_said_so(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    def look() -> object:
        return asyncio.run(get_task_async(uuid4())) if is_async else get_task(uuid4())

    with pytest.raises(TaskNotFound):
        look()
    pair.servers[0].stop()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", BRIEF)
    with pytest.raises(BrokerUnavailable, match=r"cell 'video\*': no answer"):
        look()
    with pytest.raises(BrokerUnavailable, match=r"cell 'video\*': no answer"):
        add.handle(uuid4()).cancel()
    handle = add.handle(uuid4())
    with pytest.raises(BrokerUnavailable, match=r"cell 'video\*': no answer"):
        asyncio.run(handle.wait_async(1)) if is_async else handle.wait(1)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_task_is_looked_for_only_where_this_process_sent_it(pair: Pair, is_async: bool) -> None:
    handle = add.send(1)
    pair.rest.put(state(handle.id))
    pair.video.failures = [unavailable]  # for whoever reads there first
    asyncio.run(handle.refresh_async()) if is_async else handle.refresh()
    assert handle.status == "completed"
    strange = add.handle(handle.id)
    assert asyncio.run(strange.wait_async(60)) if is_async else strange.wait(60)
    assert not (asyncio.run(handle.cancel_async()) if is_async else handle.cancel())
    assert pair.video.failures == [unavailable]
    assert not pair.video.cancelled


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_waits_and_cancels_go_to_the_cells_of_their_tasks(pair: Pair, is_async: bool) -> None:
    handles = send_many([video.call(1), add.call(2)])
    strange = add.handle(uuid4())
    pair.video.put(state(handles[0].id))
    pair.rest.put(state(handles[1].id))
    pair.video.put(state(strange.id))
    all_of_them = [*handles, strange]
    assert asyncio.run(wait_all_async(all_of_them, 60)) if is_async else wait_all(all_of_them, 60)
    pair.rest.put(state(handles[1].id, task_pb2.TASK_STATUS_QUEUED))
    assert handles[1].cancel("not needed")
    assert pair.rest.cancelled == [str(handles[1].id)]
    assert not pair.video.cancelled


def test_a_wait_for_several_cells_ends_when_the_last_has_told(pair: Pair) -> None:
    handles = send_many([video.call(1), add.call(2)])
    pair.video.put(state(handles[0].id))
    pair.rest.put(state(handles[1].id, task_pb2.TASK_STATUS_RUNNING))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_all, handles)
        for tasks in (pair.video, pair.rest):
            assert tasks.arrived.acquire(timeout=60)
        while not pair.rest.watches:
            time.sleep(0.001)
        assert not waiting.done()
        pair.rest.put(state(handles[1].id))
        assert waiting.result(60)


def test_a_send_without_an_answer_is_repeated_where_it_was_made(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its queue has moved meanwhile: the task may be stored there."""
    pair.video.gate.clear()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", BEARABLE)
    with pytest.raises(SubmitUnknown) as caught:
        video.send(1)
    monkeypatch.setenv("HYREX_CELLS", f"*={pair.servers[1].url}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", PATIENT)
    pair.video.gate.set()
    caught.value.handle.resend()
    assert set(ids(pair.video)) == {str(caught.value.handle.id)}
    assert not pair.rest.submitted
    moved = video.send(2)
    assert ids(pair.rest) == [str(moved.id)]


def test_a_send_that_was_certainly_not_stored_may_go_where_its_queue_has_moved(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.servers[0].stop()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", BRIEF)
    with pytest.raises(BrokerUnavailable) as caught:
        video.send(1)
    monkeypatch.setenv("HYREX_CELLS", f"*={pair.servers[1].url}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", PATIENT)
    assert caught.value.handle is not None
    caught.value.handle.resend()
    assert ids(pair.rest) == [str(caught.value.handle.id)]


def test_an_idempotency_key_goes_to_one_cell_only(pair: Pair) -> None:
    add.with_config(idempotency_key="k").send(1)
    add.with_config(idempotency_key="k", queue="mail").send(1)
    with pytest.raises(
        SendRejected, match="add has an idempotency key, which is looked for in one cell"
    ) as caught:
        video.with_config(idempotency_key="k").send(1)
    assert caught.value.reason == "SPANS_CELLS"
    with pytest.raises(SendManyFailed) as some:
        send_many([video.with_config(idempotency_key="k").call(1), video.call(2), add.call(3)])
    assert list(some.value.failures) == [0]
    assert (len(pair.video.submitted), len(pair.rest.submitted)) == (1, 3)


def test_a_signal_handler_may_send_to_two_cells_from_amid_a_send(pair: Pair) -> None:
    """Its thread may hold what the clients' threads need, so nothing of them is waited for."""
    from hyrex.client import process
    from hyrex.client.cells import CellsBackend

    add.send(0)
    backend = process.current_backend()
    assert isinstance(backend, CellsBackend)
    with backend._clients[0]._inside, backend._clients[1]._inside:
        handles = send_many([video.call(1), add.call(2)])
        strange = uuid4()
        pair.rest.put(state(strange))
        assert get_task(strange).status == "completed"
        for tasks, handle in zip((pair.video, pair.rest), handles, strict=True):
            tasks.put(state(handle.id))
        assert wait_all(handles, 60)


def test_what_is_remembered_is_bounded() -> None:
    homes = Homes(generation=10)
    keys = [number.to_bytes(16, "big") for number in range(1000)]
    for key in keys:
        homes.remember([key], "a")
        assert len(homes) <= 20
    assert homes.of(keys[-1]) == "a"
    homes.remember(keys, "b")
    assert len(homes) <= 20
    assert homes.of(keys[-1]) == "b"


def test_closing_ends_the_threads_of_every_cell(pair: Pair) -> None:
    send_many([video.call(1), add.call(2)])
    close_client()
    assert not [each for each in threading.enumerate() if each.name == "hyrex-client"]
