"""A call at any broker of a list: one that is not there, does not serve or falls silent is passed over."""

import asyncio
import socket
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from hyrex.transport import any_broker
from hyrex.transport.any_broker import at_any
from hyrex.transport.channel import parse_url
from hyrex.transport.errors import CallFailed
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from hyrex.worker.launcher.end_session import end_session
from hyrex.worker.shared.launcher_messages import SessionTold
from tests.support.scripted_broker import scripted_broker
from tests.support.scripted_tasks import NOT_SERVING, ScriptedTasks, Server, refuse
from tests.unit.sdk.sent_tasks import unavailable

ID = "01900000-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def by_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the list is tried first."""
    monkeypatch.setattr(any_broker, "spread", list)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a process that is stopped: connections are made, nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"grpc://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def there(tasks: ScriptedTasks) -> Iterator[Server]:
    """A broker that has the task."""
    tasks.put(task_pb2.Task(task_id=ID, name="add", status=task_pb2.TASK_STATUS_RUNNING))
    server = Server(tasks)
    yield server
    server.stop()


async def name(*urls: str) -> str:
    async def call(channel: grpc.aio.Channel) -> str:
        found = await TaskServiceStub(channel).GetTask(task_service_pb2.GetTaskRequest(task_id=ID))
        return str(found.task.name)

    async with asyncio.timeout(60):
        return await at_any(parse_url(",".join(urls)), None, call)


async def test_one_that_is_stopped_and_one_that_is_gone_are_passed_over(there: Server, silent: str) -> None:
    assert await name(silent, "grpc://127.0.0.1:1", there.url) == "add"


async def test_one_that_says_another_may_do_is_passed_over(there: Server) -> None:
    other = ScriptedTasks()
    server = Server(other)
    try:
        other.failures = [unavailable]
        assert await name(server.url, there.url) == "add"
        other.health = NOT_SERVING
        other.failures = [lambda context: refuse(context, grpc.StatusCode.INTERNAL, "INTERNAL")]
        assert await name(server.url, there.url) == "add"
        assert other.failures, "it was not even asked"
    finally:
        server.stop()


async def test_one_that_falls_silent_after_it_served_is_passed_over(there: Server) -> None:
    other = ScriptedTasks()
    server = Server(other)

    def fall_silent(context: grpc.ServicerContext) -> None:
        other.health = NOT_SERVING
        other.gate.clear()
        other.gate.wait(60)

    other.failures = [fall_silent]
    try:
        assert await name(server.url, there.url) == "add"
    finally:
        other.gate.set()
        server.stop()


async def test_a_refusal_is_the_answer(there: Server, tasks: ScriptedTasks) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.PERMISSION_DENIED)]
    with pytest.raises(CallFailed, match="PERMISSION_DENIED"):
        await name(there.url, "grpc://127.0.0.1:1")


async def test_what_the_last_one_said_is_told(tasks: ScriptedTasks, there: Server) -> None:
    tasks.failures = [unavailable]
    with pytest.raises(CallFailed) as caught:
        await name(there.url, "grpc://127.0.0.1:1")
    assert caught.value.failure.reason == "STORAGE_UNAVAILABLE"


async def test_a_session_is_ended_by_a_broker_that_serves(silent: str) -> None:
    async with scripted_broker() as broker:
        session = SessionTold("s", b"secret")
        assert await end_session(f"{silent},grpc://127.0.0.1:1,{broker.url}", "", session, "gone")
        assert [request.session_id for request in broker.ended] == ["s"]
