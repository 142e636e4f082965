"""A client with several brokers in its list leaves one that fails, for whatever it does, and comes back."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex import BrokerUnavailable
from hyrex.client import close_client
from hyrex.transport import connection
from hyrex.transport.channel import parse_url, spread
from hyrex.v1 import task_pb2
from tests.support.scripted_tasks import NOT_SERVING, SERVING, ScriptedTasks, Server, refuse
from tests.unit.sdk.sent_tasks import add, client, unavailable

SEND_TIMEOUT_S = 20.0
"""A busy machine takes its time; the send of a client that does not move raises."""


@dataclass
class Pair:
    """Two brokers; the client's list begins with the first."""

    first: ScriptedTasks
    second: ScriptedTasks


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(connection, "spread", list, raising=False)
    with ExitStack() as stack:
        made = Pair(ScriptedTasks(), ScriptedTasks())
        servers = [Server(tasks) for tasks in (made.first, made.second)]
        for server in servers:
            stack.callback(server.stop)
        monkeypatch.setenv("HYREX_BROKER_URL", ",".join(server.url for server in servers))
        monkeypatch.setenv("HYREX_SEND_TIMEOUT", str(SEND_TIMEOUT_S))
        monkeypatch.delenv("HYREX_TOKEN", raising=False)
        yield made
        made.first.gate.set()
        made.second.gate.set()
        close_client()


def test_a_broker_without_its_storage_is_left_for_another(pair: Pair) -> None:
    pair.first.failures = [unavailable] * 1000
    handle = add.send(1)
    assert [task.task_id for task in pair.second.submitted] == [str(handle.id)]
    assert len(pair.first.submitted) == 1
    add.send(2)
    assert len(pair.first.submitted) == 1


def test_a_frame_without_an_answer_goes_to_another_broker_under_the_same_id(pair: Pair) -> None:
    pair.first.gate.clear()
    handle = add.send(1)
    assert {task.task_id for task in pair.first.submitted + pair.second.submitted} == {str(handle.id)}
    assert len(pair.second.submitted) == 1


def test_a_broker_that_says_it_does_not_serve_is_sent_nothing(pair: Pair) -> None:
    pair.first.health = NOT_SERVING
    add.send(1)
    assert not pair.first.submitted
    assert len(pair.second.submitted) == 1


def test_a_broker_that_serves_is_given_longer_than_a_silent_one(pair: Pair) -> None:
    """Where all are busy, going round makes more work of the same tasks."""
    pair.first.health = pair.second.health = SERVING
    pair.first.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(add.send, 1)
        assert pair.first.asked.acquire(timeout=30)  # at its beginning
        assert pair.first.asked.acquire(timeout=30)  # when it was silent for a second
        pair.first.gate.set()
        sent.result(30)
    assert not pair.second.submitted


def test_a_broker_that_serves_and_never_answers_is_left_all_the_same(pair: Pair) -> None:
    pair.first.health = pair.second.health = SERVING
    pair.first.gate.clear()
    add.send(1)
    assert len(pair.second.submitted) == 1


def test_reads_and_cancels_move_to_another_broker(pair: Pair) -> None:
    task = task_pb2.Task(task_id=str(uuid4()), name="add", status=task_pb2.TASK_STATUS_RUNNING)
    pair.second.put(task)
    pair.first.failures = [unavailable] * 1000
    handle = add.handle(task.task_id)
    handle.refresh()
    assert handle.status == "running"
    assert handle.cancel()
    assert pair.second.cancelled == [task.task_id]
    assert not pair.first.cancelled


def test_a_read_without_an_answer_moves_to_another_broker(pair: Pair) -> None:
    released = threading.Event()
    task = task_pb2.Task(task_id=str(uuid4()), name="add", status=task_pb2.TASK_STATUS_RUNNING)
    pair.second.put(task)

    def hold(context: grpc.ServicerContext) -> None:
        released.wait(60)

    pair.first.failures = [hold]
    handle = add.handle(task.task_id)
    handle.refresh()
    released.set()
    assert handle.status == "running"


def test_a_wait_moves_when_its_broker_does_not_serve_any_more(pair: Pair) -> None:
    task = task_pb2.Task(task_id=str(uuid4()), name="add", status=task_pb2.TASK_STATUS_RUNNING)
    for tasks in (pair.first, pair.second):
        tasks.health = SERVING
        tasks.put(task)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(add.handle(task.task_id).wait, 60)
        assert pair.first.arrived.acquire(timeout=30)
        pair.first.health = NOT_SERVING
        assert pair.second.arrived.acquire(timeout=30)
        task.status = task_pb2.TASK_STATUS_COMPLETED
        pair.second.put(task)
        assert waiting.result(30)


def test_a_broker_that_is_full_is_left_though_it_asks_for_a_repeat(pair: Pair) -> None:
    pair.first.failures = [
        lambda context: refuse(
            context, grpc.StatusCode.RESOURCE_EXHAUSTED, "FLOW_CONTROL", retry=Duration(nanos=10_000_000)
        )
    ]
    add.send(1)
    assert len(pair.second.submitted) == 1


def until_no_task_is_watched() -> None:
    """Until the client has read that its watch is refused."""
    life, ends = client()._life, time.monotonic() + 60
    while life is None or life._watcher is None or life._watcher._stream_of:
        assert time.monotonic() < ends
        time.sleep(0.001)


def at_bound(bound: str, seconds: int) -> Callable[[grpc.ServicerContext], None]:
    """Refuse a watch as one too many."""

    def answer(context: grpc.ServicerContext) -> None:
        code, wait = grpc.StatusCode.RESOURCE_EXHAUSTED, Duration(seconds=seconds)
        refuse(context, code, "QUOTA_EXCEEDED", retry=wait, bound=bound, limit="5")

    return answer


def test_a_broker_that_is_full_of_watches_is_left_for_another(pair: Pair) -> None:
    task = task_pb2.Task(task_id=str(uuid4()), name="add", status=task_pb2.TASK_STATUS_COMPLETED)
    pair.second.put(task)
    pair.first.failures = [at_bound("broker", 1)] * 1000
    assert add.handle(task.task_id).wait(60)
    assert len(pair.first.watches) == 1


def test_a_watch_that_is_one_too_many_holds_up_no_other(pair: Pair) -> None:
    refused, other = (
        task_pb2.Task(task_id=str(uuid4()), name="add", status=task_pb2.TASK_STATUS_COMPLETED)
        for _ in range(2)
    )
    pair.first.put(refused)
    pair.first.put(other)
    pair.first.failures = [at_bound("connection", 600)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(add.handle(refused.task_id).wait, 60)
        try:
            assert pair.first.arrived.acquire(timeout=30)
            until_no_task_is_watched()
            assert add.handle(other.task_id).wait(30)
            assert not pair.second.watches
        finally:
            close_client()
        with pytest.raises(BrokerUnavailable):
            waiting.result(30)


def test_a_client_that_had_to_leave_comes_back(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETURN_AFTER_S", 0.01, raising=False)
    pair.first.health = NOT_SERVING
    add.send(1)
    pair.first.health = SERVING
    ends = time.monotonic() + 30
    while not pair.first.submitted and time.monotonic() < ends:
        add.send(2)
    assert pair.first.submitted
    assert not pair.first.failures


def test_a_client_stays_where_it_is_while_its_first_broker_is_away(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETURN_AFTER_S", 0.01, raising=False)
    pair.first.health = NOT_SERVING
    add.send(1)
    for _ in range(3):  # each is answered, and then somebody looks whether the first is back
        while pair.first.asked.acquire(blocking=False):
            pass
        while not pair.first.asked.acquire(blocking=False):
            add.send(2)
    assert not pair.first.submitted


def test_clients_with_one_list_are_spread_over_it() -> None:
    addresses = parse_url("grpc://a,grpc://b,grpc://c")
    orders = [tuple(spread(addresses)) for _ in range(300)]
    assert {order[0] for order in orders} == set(addresses)
    assert all(sorted(order, key=str) == sorted(addresses, key=str) for order in orders)


def test_seeded_programs_are_spread_too() -> None:
    import random

    addresses = parse_url("grpc://a,grpc://b,grpc://c")
    firsts = set()
    for _ in range(300):
        random.seed(1)
        firsts.add(spread(addresses)[0])
    assert len(firsts) == 3


def test_a_single_address_is_asked_and_timed_by_nobody(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    first = os.environ["HYREX_BROKER_URL"].partition(",")[0]
    monkeypatch.setenv("HYREX_BROKER_URL", first)
    pair.first.health = NOT_SERVING
    add.send(1)
    assert len(pair.first.submitted) == 1
    assert not pair.first.asked.acquire(blocking=False)
