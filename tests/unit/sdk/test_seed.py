"""The snippets of the first documentation, as written, with tasks run in place."""

import logging
from collections.abc import Iterator
from typing import Any, List  # noqa: UP035

import pytest
from pydantic import BaseModel

from hyrex import HyrexRegistry, get_hyrex_context
from hyrex.testing import inline

hy = HyrexRegistry()


class TemporaryError(Exception): ...


class PermanentError(Exception): ...


class ProcessContext(BaseModel):
    file_path: str
    options: dict  # type: ignore[type-arg]


class OrderContext(BaseModel):
    order_id: int
    customer_email: str
    items: List[dict]  # type: ignore[type-arg]  # noqa: UP006


@hy.task
def process_file(context: ProcessContext):  # type: ignore[no-untyped-def]
    # Task logic
    print(f"Processing {context.file_path}")
    return {"status": "completed", "file": context.file_path}


@hy.task(
    queue="processing",          # Target queue
    max_retries=3,              # Retry attempts
    timeout_seconds=300,        # Timeout (5 minutes)
    priority=5,                 # 1-10 (higher = more important)
    retry_backoff=lambda n: n*10 # Backoff strategy
)  # fmt: skip
def configured_task(data: dict):  # type: ignore[no-untyped-def, type-arg]
    # Process with specific configuration
    return {"processed": True}


@hy.task
def task_with_context(data: dict):  # type: ignore[no-untyped-def, type-arg]
    # Get current task context
    context = get_hyrex_context()

    if context:
        task_id = context.task_id
        attempt_number = context.attempt_number
        queue_name = context.queue  # noqa: F841

        print(f"Processing task {task_id} (attempt {attempt_number})")

        # Access parent task info if this is a sub-task
        if context.parent_id:
            print(f"Spawned by task: {context.parent_id}")

    # Your task logic here
    return {"processed_by": str(task_id) if context else "unknown"}


@hy.task
def spawns(data: dict) -> str:  # type: ignore[type-arg]
    return str(task_with_context.send(data).result()["processed_by"])


calls: list[dict[str, Any]] = []


def external_api_call(data: dict[str, Any]) -> Any:
    calls.append(data)
    if data["error"] == "temporary":
        raise TemporaryError("later")
    raise PermanentError("never")


@hy.task(max_retries=3)
def task_with_retries(data: dict):  # type: ignore[no-untyped-def, type-arg]
    try:
        # Attempt operation
        result = external_api_call(data)
        return result  # noqa: RET504
    except TemporaryError:
        # This will trigger a retry
        raise
    except PermanentError as e:
        # This will not retry
        return {"error": str(e), "status": "failed"}


def error_handler(e: Exception):  # type: ignore[no-untyped-def]
    # Log error, send alert, etc.
    print(f"Task error: {type(e).__name__}: {str(e)}")  # noqa: RUF010


@hy.task(
    max_retries=3,
    on_error=error_handler
)  # fmt: skip
def monitored_task(data: dict):  # type: ignore[no-untyped-def, type-arg]
    # Task logic that might fail
    result = external_api_call(data)
    return result  # noqa: RET504


@hy.task
def ship(context: OrderContext) -> int:
    return sum(item["count"] for item in context.items)


@pytest.fixture(autouse=True)
def _in_place() -> Iterator[None]:
    calls.clear()
    logging.getLogger("hyrex").setLevel(logging.WARNING)
    with inline():
        yield


context = ProcessContext(file_path="/data/input.csv", options={"format": "csv"})


def test_sending_tracking_and_reading_results(capsys: pytest.CaptureFixture[str]) -> None:
    # Send with default configuration
    task = process_file.send(ProcessContext(
        file_path="/data/input.csv",
        options={"format": "csv"}
    ))  # fmt: skip

    # Override configuration at runtime
    urgent_task = process_file.with_config(
        queue="high-priority",
        max_retries=5
    ).send(context)  # fmt: skip

    # Get task ID
    print(f"Task ID: {task.id}")
    print(f"Task name: {task.task_name}")

    # Refresh task status from database
    task.refresh()

    # Access task runs (attempts)
    for run in task.task_runs:
        print(f"Attempt {run.attempt_number}: {run.status}")
        if run.status == "completed":
            print(f"Result: {run.result}")

    assert urgent_task.id != task.id
    assert capsys.readouterr().out == (
        "Processing /data/input.csv\n"
        "Processing /data/input.csv\n"
        f"Task ID: {task.id}\n"
        "Task name: process_file\n"
        "Attempt 0: completed\n"
        "Result: {'status': 'completed', 'file': '/data/input.csv'}\n"
    )


def test_configuration_options() -> None:
    config = configured_task.config
    assert (config.queue, config.max_retries, config.timeout_seconds, config.priority) == (
        "processing",
        3,
        300.0,
        5,
    )
    assert [configured_task.retry_delay_s(n) for n in (1, 2, 3)] == [10, 20, 30]
    assert configured_task.send({"a": 1}).result() == {"processed": True}


def test_context_of_a_task_of_its_child_and_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    handle = task_with_context.send({})
    assert handle.result() == {"processed_by": str(handle.id)}
    assert capsys.readouterr().out == f"Processing task {handle.id} (attempt 0)\n"
    parent = spawns.send({})
    assert f"Spawned by task: {parent.id}" in capsys.readouterr().out
    assert task_with_context({}) == {"processed_by": "unknown"}


def test_raising_retries_and_returning_does_not() -> None:
    with pytest.raises(TemporaryError):
        task_with_retries.send({"error": "temporary"})
    assert len(calls) == 4
    handle = task_with_retries.send({"error": "permanent"})
    assert handle.result() == {"error": "never", "status": "failed"}
    assert (handle.status, len(calls)) == ("completed", 5)


def test_error_callback_runs_on_each_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TemporaryError):
        monitored_task.send({"error": "temporary"})
    assert capsys.readouterr().out == "Task error: TemporaryError: later\n" * 4


def test_models_with_lists_of_dicts() -> None:
    order = OrderContext(order_id=1, customer_email="a@b", items=[{"count": 2}, {"count": 3}])
    assert ship.send(order).result() == 5
