"""Handles: attributes without I/O, watches instead of polls, results or the error that fits."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from hyrex import (
    HyrexRegistry,
    ResultInvalid,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskLost,
    TaskNotFound,
    TaskTimedOut,
    get_task,
    get_task_async,
    wait_all,
    wait_all_async,
)
from hyrex.client import close_client, current_backend
from hyrex.errors import BrokerUnavailable, CallRejected, HyrexError, ResultUnavailable, WouldDeadlock
from hyrex.runtime.waiting import install_around_wait
from hyrex.v1.task_pb2 import RunError, RunStatus, Task, TaskRun, TaskStatus
from tests.unit.sdk.scripted_tasks import ScriptedTasks, Server, refuse

hy = HyrexRegistry()


@hy.task
def parse(text: str) -> list[datetime]:
    raise NotImplementedError


def wire(task_id: UUID | str, status: str, *runs: TaskRun, name: str = "parse") -> Task:
    return Task(
        task_id=str(task_id),
        name=name,
        queue="default",
        status=TaskStatus.Value(f"TASK_STATUS_{status.upper()}"),
        runs=runs,
    )


def run(number: int, status: str, **fields: Any) -> TaskRun:
    return TaskRun(
        run_number=number,
        attempt_number=number,
        status=RunStatus.Value(f"RUN_STATUS_{status.upper()}"),
        **fields,
    )


COMPLETED = run(0, "completed", result=b'["2026-01-01T00:00:00Z"]', worker="w1")


@pytest.fixture
def handle(server: Server, tasks: ScriptedTasks) -> TaskHandle[list[datetime]]:
    return parse.send("x")


def test_refresh_learns_status_and_runs_in_order(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    failed = run(0, "failed", error=RunError(type="ValueError", message="no", traceback="Traceback ..."))
    failed.started_at.FromDatetime(began)
    tasks.put(wire(handle.id, "running", run(1, "running", worker="w2"), failed))
    assert (handle.status, handle.task_runs) == ("queued", [])
    handle.refresh()
    first, second = handle.task_runs
    assert handle.status == "running"
    assert (first.run_number, first.attempt_number, first.status) == (0, 0, "failed")
    assert str(first.error) == "ValueError: no"
    assert (first.result, first.started, first.finished) == (None, began, None)
    assert (second.status, second.worker, second.error) == ("running", "w2", None)


def test_result_of_a_run_is_validated_by_the_return_annotation(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "completed", COMPLETED))
    assert handle.result(30) == [datetime(2026, 1, 1, tzinfo=UTC)]
    assert handle.task_runs[0].result == [datetime(2026, 1, 1, tzinfo=UTC)]
    by_id = get_task(handle.id)
    assert (by_id.task_name, by_id.status) == ("parse", "completed")
    assert by_id.task_runs[0].result == ["2026-01-01T00:00:00Z"]
    assert parse.handle(str(handle.id)).result(30) == handle.result()


def test_finished_task_is_not_asked_for_again(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "completed", COMPLETED))
    assert handle.wait(30)
    assert handle.wait(0)
    assert handle.result(0)
    assert len(tasks.watches) == 1


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


@pytest.mark.parametrize(
    ("status", "last", "error", "text"),
    [
        (
            "failed",
            run(
                2, "failed", error=RunError(type="ValueError", message="no luck", traceback="Traceback: here")
            ),
            TaskFailed,
            r"parse .*: ValueError: no luck \(3 attempts\)",
        ),
        ("timed_out", run(0, "timed_out"), TaskTimedOut, r"exceeded its timeout \(1 attempt\)"),
        ("lost", run(5, "lost", reason="child exited with signal SIGKILL"), TaskLost, "lost: child exited"),
        ("cancelled", run(0, "cancelled", reason="by ada"), TaskCancelled, "was cancelled: by ada"),
        ("completed", run(0, "completed", result=b"3"), ResultInvalid, "result of parse: "),
    ],
)
def test_result_raises_what_became_of_the_task(
    handle: TaskHandle[list[datetime]],
    tasks: ScriptedTasks,
    status: str,
    last: TaskRun,
    error: type[BaseException],
    text: str,
) -> None:
    tasks.put(wire(handle.id, status, last))
    assert handle.wait(30) is (status == "completed")
    with pytest.raises(error, match=text) as caught:
        handle.result()
    assert isinstance(caught.value, ResultUnavailable)
    assert isinstance(caught.value, HyrexError)


def test_failed_task_carries_type_message_and_remote_traceback(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    error = RunError(type="KeyError", message="'x'", traceback="Traceback (most recent call last): ...")
    tasks.put(wire(handle.id, "failed", run(0, "failed", error=error)))
    with pytest.raises(TaskFailed) as caught:
        handle.result(30)
    assert (caught.value.type, caught.value.message) == ("KeyError", "'x'")
    assert caught.value.traceback in caught.value.__notes__[0]


def test_cancelled_result_is_no_cancel_of_the_caller() -> None:
    from hyrex.errors import TaskTimeout, TaskWasCancelled

    assert issubclass(TaskWasCancelled, Exception)
    for inside in (TaskCancelled, TaskTimeout):
        assert not issubclass(inside, Exception)


def test_cancel_says_whether_the_task_was_not_over_yet(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    assert handle.cancel("enough")
    tasks.put(wire(handle.id, "completed", COMPLETED))
    assert not asyncio.run(handle.cancel_async())
    assert tasks.cancelled == [str(handle.id)] * 2
    with pytest.raises(TaskNotFound):
        parse.handle(uuid4()).cancel()


def test_unknown_task_is_not_found_however_it_is_asked_for(server: Server) -> None:
    handle = parse.handle(uuid4())
    assert handle.status is None
    for ask in (handle.refresh, lambda: get_task(handle.id), handle.wait, handle.result):
        with pytest.raises(TaskNotFound):
            ask()


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


def test_refresh_survives_unavailable_storage(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")]
    handle.refresh()
    assert handle.status == "running"


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
    from hyrex.client import process

    life = process._remote._life if process._remote else None
    assert life is not None
    assert life._watcher is not None
    ends = time.monotonic() + 30
    while life._watcher._streams and time.monotonic() < ends:
        time.sleep(0.001)
    assert not life._watcher._streams


def test_async_twins_await_on_the_callers_loop(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "completed", COMPLETED))

    async def main() -> None:
        await handle.refresh_async()
        assert await handle.wait_async(5)
        assert await handle.result_async(5) == [datetime(2026, 1, 1, tzinfo=UTC)]
        assert (await get_task_async(handle.id)).status == "completed"
        await handle.resend_async()

    asyncio.run(main())
    assert len(tasks.submitted) == 2


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
