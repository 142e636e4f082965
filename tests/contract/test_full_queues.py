"""A queue whose maximum is reached: senders wait as its broker says, and are told if there is no room."""

import asyncio
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import pytest

import hyrex
from hyrex import QueueFull, SendManyFailed, SendRejected
from hyrex.backend.outgoing import Postponed, Progress, prepare
from hyrex.client.direct import DirectBackend
from hyrex.client.process import close_client
from hyrex.config import Settings
from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc
from tests.contract import more_tasks as more
from tests.support.processes import RunningBroker

LONG_S: Final = 60
_numbers: Final = itertools.count()


class Narrow:
    """A paused queue in which `most` may wait."""

    def __init__(self, channel: grpc.Channel, most: int) -> None:
        self.name = f"narrow-{next(_numbers)}"
        self.task = more.optional.with_config(queue=self.name)
        self._queues = queue_service_pb2_grpc.QueueServiceStub(channel)
        self.update(max_waiting=most, paused=True)

    def update(self, **changes: Any) -> queue_service_pb2.Queue:
        request = queue_service_pb2.UpdateQueueRequest(name=self.name, **changes)
        return self._queues.UpdateQueue(request, timeout=LONG_S).queue


@pytest.fixture
def narrow(served: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Narrow]:
    """With room for two."""
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "2")
    with grpc.insecure_channel(served.address) as channel:
        yield Narrow(channel, 2)


def test_a_send_without_room_is_told_the_queue_and_its_maximum(narrow: Narrow) -> None:
    handles = [narrow.task.send(1), narrow.task.send(2)]
    with pytest.raises(QueueFull, match=narrow.name) as caught:
        narrow.task.send(3)
    assert isinstance(caught.value, SendRejected)
    assert (caught.value.queue, caught.value.limit) == (narrow.name, 2)
    assert caught.value.reason == "QUOTA_EXCEEDED"
    with pytest.raises(QueueFull):
        asyncio.run(narrow.task.send_async(3))
    assert more.optional.send(4).result(timeout=LONG_S) == 4
    narrow.update(paused=False)
    assert hyrex.wait_all(handles, timeout=LONG_S)


def test_a_send_waits_for_room(narrow: Narrow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", str(LONG_S))
    close_client()
    assert len(hyrex.send_many([narrow.task.call(1), narrow.task.call(2)])) == 2
    with ThreadPoolExecutor(2) as pool:
        alone = pool.submit(narrow.task.send, 3)
        some = pool.submit(hyrex.send_many, [narrow.task.call(number) for number in range(4, 8)])
        narrow.update(paused=False)
        assert alone.result(LONG_S).result(timeout=LONG_S) == 3
        assert [each.result(timeout=LONG_S) for each in some.result(LONG_S)] == [4, 5, 6, 7]


def test_of_many_those_without_room_are_named(narrow: Narrow) -> None:
    with pytest.raises(SendManyFailed) as caught:
        hyrex.send_many(narrow.task.call(number) for number in range(5))
    assert list(caught.value.failures) == [2, 3, 4]
    assert {type(error) for error in caught.value.failures.values()} == {QueueFull}
    narrow.update(paused=False)
    assert hyrex.wait_all(caught.value.handles[:2], timeout=LONG_S)


def test_a_call_without_the_clients_thread_waits_too(narrow: Narrow, served: RunningBroker) -> None:
    direct = DirectBackend(Settings(served.url, None, 1.0))
    stored, *_, refused = direct.store([prepare(narrow.task._spec, b'{"value":1}') for _ in range(3)])
    assert stored is Progress.STORED
    assert isinstance(refused, Postponed)
    assert isinstance(refused.error, QueueFull)


def test_a_maximum_out_of_range_is_refused(narrow: Narrow) -> None:
    for wrong in (-1, 1_000_001):
        with pytest.raises(grpc.RpcError, match="max_waiting"):
            narrow.update(max_waiting=wrong)
    assert narrow.update(paused=True).max_waiting == 2
    assert narrow.update(max_waiting=0).max_waiting == 0


def test_a_term_is_shorter_than_the_brokers_or_refused(narrow: Narrow) -> None:
    changed = narrow.update(retention_days=1, dead_letter_days=30)
    assert (changed.retention_days, changed.dead_letter_days) == (1, 30)
    for field, most in (("retention_days", 7), ("dead_letter_days", 30)):
        for wrong in (-1, most + 1):
            with pytest.raises(grpc.RpcError) as caught:
                narrow.update(**{field: wrong})
            setting = "--" + field.replace("_", "-")
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            words = f"{field} = {wrong}: must lie between 1 and {most}, the broker's {setting}"
            assert words in str(caught.value.details())
    changed = narrow.update(retention_days=0)
    assert (changed.retention_days, changed.dead_letter_days) == (0, 30)
