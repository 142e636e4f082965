"""Handles: attributes without I/O, watches instead of polls, results or the error that fits."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import grpc
import pytest

import hyrex
from hyrex import (
    ResultInvalid,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskLost,
    TaskNotFound,
    TaskTimedOut,
    get_task,
    get_task_async,
)
from hyrex.errors import HyrexError, ResultUnavailable
from hyrex.links import link
from hyrex.v1.task_pb2 import RunError, TaskRun
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse
from tests.unit.sdk.parsed_tasks import COMPLETED, parse, run, wire


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


def test_refresh_survives_unavailable_storage(
    handle: TaskHandle[list[datetime]], tasks: ScriptedTasks
) -> None:
    tasks.put(wire(handle.id, "running"))
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")]
    handle.refresh()
    assert handle.status == "running"


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


@pytest.mark.parametrize(
    "asked",
    [
        get_task,
        hyrex.complete,
        hyrex.dismiss,
        hyrex.replay,
        parse.handle,
        partial(link, result=True, url="https://tasks.example", key="a" * 64),
    ],
)
def test_an_id_that_is_none_is_named(asked: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match=r"the id of a task is a UUID, as in handle\.id, got '17'"):
        asked("17")
