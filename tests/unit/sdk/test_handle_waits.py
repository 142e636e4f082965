"""Waits for tasks: watches instead of polls, shared by those that wait."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import grpc
import pytest

from hyrex import (
    TaskHandle,
    TaskNotFound,
    wait_all,
    wait_all_async,
)
from hyrex.client import close_client, current_backend
from hyrex.errors import BrokerUnavailable, CallRejected, HyrexError, WouldDeadlock
from hyrex.runtime.waiting import install_around_wait
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse
from tests.unit.sdk.parsed_tasks import COMPLETED, parse, run, wire
from tests.unit.sdk.sent_tasks import client


def test_wait_returns_when_the_task_ends_not_at_a_poll(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(handle.wait, 60)
        assert tasks.arrived.acquire(timeout=30)
        tasks.put(wire(handle.id, "completed", COMPLETED))
        assert waiting.result(30)
    assert (len(tasks.watches), handle.status) == (1, "completed")


def test_wait_says_false_when_time_is_up_and_result_raises(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    while handle.status != "running":
        assert not handle.wait(0.2)
    with pytest.raises(TimeoutError, match=f"parse {handle.id} is running after 0"):
        handle.result(0.1)
    tasks.put(wire(handle.id, "completed", COMPLETED))
    assert handle.wait(30)


def test_unknown_task_does_not_end_the_watch_of_others(server: Server, tasks: ScriptedTasks) -> None:
    known, unknown = parse.handle(uuid4()), parse.handle(uuid4())
    tasks.put(wire(known.id, "running"))
    with ThreadPoolExecutor(2) as pool:
        good, bad = pool.submit(known.wait, 60), pool.submit(unknown.wait, 60)
        with pytest.raises(TaskNotFound):
            bad.result(30)
        tasks.put(wire(known.id, "completed", COMPLETED))
        assert good.result(30)


def test_refused_watch_is_an_error_at_once(handle: TaskHandle[list[datetime]], tasks: ScriptedTasks) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")]
    with pytest.raises(CallRejected) as caught:
        handle.wait(60)
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")


def test_wait_survives_a_broker_that_restarts(
    handle: TaskHandle[list[datetime]], server: Server, tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(handle.result, 60)
        assert tasks.arrived.acquire(timeout=30)
        server.stop()
        server.start()
        assert tasks.arrived.acquire(timeout=30)
        tasks.put(wire(handle.id, "completed", COMPLETED))
        assert waiting.result(60) == [datetime(2026, 1, 1, tzinfo=UTC)]


def test_gathering_many_takes_few_watches(server: Server, tasks: ScriptedTasks) -> None:
    handles = [parse.handle(uuid4()) for _ in range(2_500)]
    for handle in handles:
        tasks.put(wire(handle.id, "completed", COMPLETED))
    assert wait_all(handles, 60)
    assert sorted(map(len, tasks.watches)) == [500, 1000, 1000]
    assert all(handle.result(0) for handle in handles)
    assert wait_all([], 0)


def test_gathering_is_false_when_one_failed_or_time_is_up(server: Server, tasks: ScriptedTasks) -> None:
    good, bad, slow = (parse.handle(uuid4()) for _ in range(3))
    tasks.put(wire(good.id, "completed", COMPLETED))
    tasks.put(wire(bad.id, "failed", run(0, "failed")))
    tasks.put(wire(slow.id, "running"))
    assert not wait_all([good, bad], 60)
    while slow.status is None:
        assert not asyncio.run(wait_all_async([good, slow], 0.3))
    assert [handle.status for handle in (good, bad, slow)] == ["completed", "failed", "running"]


def test_many_single_waits_share_streams(server: Server, tasks: ScriptedTasks) -> None:
    handles = [parse.handle(uuid4()) for _ in range(40)]
    for handle in handles:
        tasks.put(wire(handle.id, "running"))
    with ThreadPoolExecutor(40) as pool:
        waiting = []
        for handle in handles:
            waiting.append(pool.submit(handle.wait, 60))
            if len(waiting) <= 20:
                assert tasks.arrived.acquire(timeout=30)
        for handle in handles:
            tasks.put(wire(handle.id, "completed", COMPLETED))
        assert all(future.result(60) for future in waiting)
    assert max(map(len, tasks.watches)) >= 8


def test_two_waits_for_one_task_share_its_watch(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    other = parse.handle(handle.id)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(handle.wait, 60)
        assert tasks.arrived.acquire(timeout=30)
        assert not other.wait(0.1)
        while other.status != "running":
            other.wait(0.05)
        tasks.put(wire(handle.id, "completed", COMPLETED))
        assert first.result(30)
    assert len(tasks.watches) == 1


def test_watch_ends_when_nobody_waits_any_more(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    assert not handle.wait(0.2)
    life = client()._life
    assert life is not None
    assert life._watcher is not None
    ends = time.monotonic() + 30
    while life._watcher._streams and time.monotonic() < ends:
        time.sleep(0.001)
    assert not life._watcher._streams


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
def test_result_without_patience_is_a_timeout_not_an_outage(
    server: Server, tasks: ScriptedTasks, timeout: float
) -> None:
    handle = parse.handle(uuid4())
    tasks.put(wire(handle.id, "running"))
    with pytest.raises(TimeoutError):
        handle.result(timeout)


@pytest.mark.parametrize("timeout", [1e12, float("inf")])
def test_endless_patience_is_no_overflow(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks, timeout: float
) -> None:
    tasks.put(wire(handle.id, "completed", COMPLETED))
    assert parse.handle(handle.id).result(timeout)
    assert asyncio.run(parse.handle(handle.id).result_async(timeout))


def test_blocking_wait_on_a_running_loop_warns(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "completed", COMPLETED))

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match=r"wait\(\) blocks the running event loop; await wait_async"):
            handle.wait(30)
        assert handle.result(30)

    asyncio.run(main())


def test_blocking_waits_enter_the_workers_hook_and_awaits_do_not(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    entered: list[str] = []

    @contextmanager
    def hook() -> Iterator[None]:
        entered.append(threading.current_thread().name)
        yield

    tasks.put(wire(handle.id, "completed", COMPLETED))
    install_around_wait(hook)
    try:
        asyncio.run(parse.handle(handle.id).wait_async(5))
        assert not entered
        parse.handle(handle.id).result(30)
        wait_all([parse.handle(handle.id)], 5)
        assert len(entered) == 2
    finally:
        install_around_wait(None)


def test_hook_may_refuse_a_wait_that_would_deadlock(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    def hook() -> AbstractContextManager[None]:
        raise WouldDeadlock("2 of 2 substitutes run already")

    install_around_wait(hook)
    try:
        with pytest.raises(WouldDeadlock):
            handle.wait(30)
    finally:
        install_around_wait(None)


def test_handle_of_an_id_alone_cannot_be_resent(server: Server) -> None:
    with pytest.raises(HyrexError, match="was not sent by this handle"):
        parse.handle(uuid4()).resend()
    assert "no answer" in current_backend().silence


def test_wait_without_end_is_told_that_the_client_was_closed(server: Server, tasks: ScriptedTasks) -> None:
    handle = parse.handle(uuid4())
    tasks.put(wire(handle.id, "running"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(handle.wait)
        assert tasks.arrived.acquire(timeout=30)
        close_client()
        with pytest.raises(BrokerUnavailable, match="the client was closed"):
            waiting.result(10)
