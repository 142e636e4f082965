"""Sends while brokers are away or fail: repeated under the same id, never silently lost, named in the end."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import grpc
import pytest

from hyrex import (
    BrokerUnavailable,
    QueueFull,
    SubmitUnknown,
    send_many,
)
from hyrex.client import close_client
from hyrex.v1.task_pb2 import NewTask
from hyrex.v1.task_service_pb2 import SubmitResult
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse, rejected
from tests.unit.sdk.sent_tasks import add, is_refused, unanswered, unavailable


def test_unavailable_storage_is_tried_again_under_the_same_id(server: Server, tasks: ScriptedTasks) -> None:
    tasks.failures = [unavailable, unavailable]
    handle = add.send(1)
    assert [task.task_id for task in tasks.submitted] == [str(handle.id)] * 3


def test_failure_with_details_that_no_broker_wrote_is_like_one_without(
    server: Server, tasks: ScriptedTasks
) -> None:
    def garbled(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff"),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "from a proxy")

    tasks.failures = [garbled]
    handle = add.send(1)
    assert [task.task_id for task in tasks.submitted] == [str(handle.id)] * 2


def test_broker_that_restarts_within_the_deadline_costs_no_error(
    server: Server, tasks: ScriptedTasks
) -> None:
    add.send(1)
    server.stop()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(add.send, 2)
        while not is_refused():
            time.sleep(0.001)
        server.start()
        assert future.result(30).status == "queued"


def test_broker_that_is_not_there_is_named_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr("hyrex.config.DEFAULT_SEND_TIMEOUT_S", 60.0)
        monkeypatch.setenv("HYREX_BROKER_URL", url)
        monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.5")
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable) as caught:
            add.send(1)
        assert 0.4 < time.monotonic() - began < 20
        text = f"no answer from {url} within 0.5 s. Start one with `hyrex dev`, or set HYREX_BROKER_URL."
        assert str(caught.value) == text
        with pytest.raises(BrokerUnavailable):
            send_many(add.call(n) for n in range(3))
        with pytest.raises(BrokerUnavailable):
            add.handle(uuid4()).refresh()
        with pytest.raises(BrokerUnavailable):
            add.handle(uuid4()).wait(0.3)
        with pytest.raises(BrokerUnavailable):
            add.handle(uuid4()).result()
    close_client()


def test_task_without_a_broker_may_be_resent_when_there_is_one(
    tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HYREX_BROKER_URL", f"grpc://127.0.0.1:{port}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.5")
    with pytest.raises(BrokerUnavailable) as caught:
        add.send(1)
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "10")
    server = Server(tasks, port)
    handle = caught.value.handle
    assert handle is not None
    handle.resend()
    assert [task.task_id for task in tasks.submitted] == [str(handle.id)]
    close_client()
    server.stop()


def test_sends_whose_callers_are_gone_are_not_kept_until_a_broker_comes(
    tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HYREX_BROKER_URL", f"grpc://127.0.0.1:{port}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "1")
    with ThreadPoolExecutor(20) as pool:
        for future in [pool.submit(send_many, [add.call(n) for n in range(100)]) for _ in range(20)]:
            with pytest.raises(BrokerUnavailable):
                future.result()
    assert unanswered() == 0
    while not is_refused():
        time.sleep(0.001)
    server = Server(tasks, port)
    while is_refused():
        time.sleep(0.001)
    # The connection came about with nothing to take: the next send wakes the client's thread again.
    assert add.send(1).status == "queued"
    assert len(tasks.submitted) == 1
    close_client()
    server.stop()


def test_send_without_an_answer_is_unknown_and_resend_settles_it(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.3")
    tasks.gate.clear()
    with pytest.raises(SubmitUnknown, match="it may be stored or not") as caught:
        add.send(1)
    tasks.gate.set()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "30")
    caught.value.handle.resend()
    assert caught.value.handle.status == "queued"
    assert {task.task_id for task in tasks.submitted} == {str(caught.value.handle.id)}
    assert len({task.SerializeToString() for task in tasks.submitted}) == 1


def test_address_without_hyrex_is_an_error_not_a_hang(server: Server, tasks: ScriptedTasks) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNIMPLEMENTED)]
    with pytest.raises(Exception, match="scripted"):
        add.send(1)


def test_next_address_is_tried_when_the_first_does_not_answer(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HYREX_BROKER_URL", f"grpc://127.0.0.1:{unused.getsockname()[1]},{server.url}")
        assert add.send(1).status == "queued"


def test_defect_of_the_broker_leaves_the_send_unknown_and_says_so(
    server: Server, tasks: ScriptedTasks
) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.INTERNAL, "INTERNAL", incident="7")]
    with pytest.raises(SubmitUnknown, match=r"answered INTERNAL: scripted") as caught:
        add.send(1)
    caught.value.handle.resend()
    assert len({task.task_id for task in tasks.submitted}) == 1


@pytest.mark.parametrize("lost", [True, False])
def test_a_task_for_which_there_is_no_room_after_an_attempt_without_an_answer_may_be_stored(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "2")
    full = rejected("QUOTA_EXCEEDED", queue="work", limit="1")

    def answer(task: NewTask) -> SubmitResult:
        result = full(task)
        result.error.retry_delay.FromMilliseconds(100)
        return result

    tasks.answer = answer
    tasks.failures = [unavailable] if lost else []
    with pytest.raises(SubmitUnknown if lost else QueueFull):
        add.send(1)
    assert len(tasks.submitted) > 1 + lost
