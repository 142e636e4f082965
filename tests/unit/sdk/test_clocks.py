"""A process whose clock is wrong learns the broker's, and its first sends are stored like any others."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hyrex import SendManyFailed, SendRejected, send_many, send_many_async
from hyrex.backend.ids import task_ids
from hyrex.v1 import task_pb2, task_service_pb2
from tests.support.scripted_tasks import ScriptedTasks, Server, rejected, stored
from tests.unit.sdk.sent_tasks import add, unavailable

HOUR_MS = 3_600_000
WAYS: dict[str, Callable[[], Any]] = {
    "single": lambda: [add.send(1)],
    "many": lambda: send_many(add.call(n) for n in range(2_500)),
    "async": lambda: [asyncio.run(add.send_async(1))],
    "many async": lambda: asyncio.run(send_many_async(add.call(n) for n in range(3))),
}


@pytest.fixture(params=[-2 * HOUR_MS, 30 * HOUR_MS], ids=["behind", "ahead"])
def server_ms(request: pytest.FixtureRequest, tasks: ScriptedTasks) -> Iterator[Callable[[], int]]:
    """The broker's clock, which is off from this process's; the broker accepts ids as a broker does."""
    offset_ms: int = request.param

    def now_ms() -> int:
        return time.time_ns() // 1_000_000 + offset_ms

    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        made_ms = int(task.task_id[:8] + task.task_id[9:13], 16)
        if now_ms() - 24 * HOUR_MS < made_ms < now_ms() + 60_000:
            return stored(task)
        return rejected("TASK_ID_OUT_OF_WINDOW", server_time_ms=str(now_ms()))(task)

    tasks.answer = answer
    yield now_ms
    task_ids.begin_anew()


@pytest.mark.parametrize("way", WAYS)
def test_a_first_send_is_stored_under_an_id_of_the_brokers_time(
    server: Server, tasks: ScriptedTasks, server_ms: Callable[[], int], way: str
) -> None:
    handles = WAYS[way]()
    stored_ids = [task.task_id for task in tasks.submitted][len(handles) :]
    assert sorted(stored_ids) == sorted(str(handle.id) for handle in handles)
    assert {handle.status for handle in handles} == {"queued"}
    assert all(abs((handle.id.int >> 80) - server_ms()) < 60_000 for handle in handles)
    refused = len(tasks.submitted) - len(handles)
    add.send(1)
    assert len(tasks.submitted) == refused + len(handles) + 1  # learnt once


def test_a_handle_keeps_its_id_when_it_is_sent_again(
    server: Server, tasks: ScriptedTasks, server_ms: Callable[[], int]
) -> None:
    """Its first send may be stored, although nobody heard of it."""
    handle = add.send(1)
    task_ids.begin_anew()
    tasks.answer = rejected("TASK_ID_OUT_OF_WINDOW", server_time_ms=str(server_ms()))
    before = handle.id
    with pytest.raises(SendRejected):
        handle.resend()
    assert handle.id == before


def test_an_id_that_was_sent_without_an_answer_is_not_replaced(server: Server, tasks: ScriptedTasks) -> None:
    """Another broker, or the same a little later, may judge it otherwise."""
    tasks.failures = [unavailable]
    tasks.answer = rejected("TASK_ID_OUT_OF_WINDOW", server_time_ms=str(time.time_ns() // 1_000_000))
    with pytest.raises(SendRejected):
        add.send(1)
    assert len({task.task_id for task in tasks.submitted}) == 1
    task_ids.begin_anew()


def test_a_broker_that_refuses_every_id_is_believed_after_the_second(
    server: Server, tasks: ScriptedTasks
) -> None:
    tasks.answer = rejected("TASK_ID_OUT_OF_WINDOW", server_time_ms=str(time.time_ns() // 1_000_000))
    with pytest.raises(SendRejected, match="send it again") as caught:
        add.send(1)
    assert caught.value.reason == "TASK_ID_OUT_OF_WINDOW"
    assert len(tasks.submitted) == 2
    with pytest.raises(SendManyFailed):
        send_many([add.call(1), add.call(2)])
    task_ids.begin_anew()
