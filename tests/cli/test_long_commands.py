"""Commands that take a broker several calls: they go on to the end, and say how far they are.

The broker is scripted: what a real one does in each step is tested in tests/integration/service, and as
many steps would need millions of rows.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.cli import connection, schedule, task_list
from hyrex.cli.errors import CommandError
from hyrex.v1 import queue_service_pb2 as queues
from hyrex.v1 import schedule_service_pb2 as schedules
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as tasks
from hyrex.v1.schedule_pb2 import ScheduleDefinition
from tests.support.process import environment

ID = "01900000-0000-7000-8000-00000000000{}"


class Steps:
    """Answers one after the other; what was asked is kept."""

    def __init__(self, answers: list[Any], takes_s: float = 0.0) -> None:
        self._answers = answers
        self._takes_s = takes_s
        self.asked: list[Any] = []

    def answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked.append(request)
        time.sleep(self._takes_s)
        answer = self._answers[len(self.asked) - 1]
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "the broker is gone")
        return answer


@contextmanager
def scripted(steps: Steps) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    for service, method, asked in (
        ("QueueService", "PurgeQueue", queues.PurgeQueueRequest),
        ("TaskService", "ListTasks", tasks.ListTasksRequest),
        ("ScheduleService", "ListSchedules", schedules.ListSchedulesRequest),
    ):
        handler: Any = grpc.unary_unary_rpc_method_handler(
            steps.answer, asked.FromString, lambda answer: answer.SerializeToString()
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(f"hyrex.v1.{service}", {method: handler}),)
        )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(60)


Hyrex = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hyrex(tmp_path: Path) -> Hyrex:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hyrex.cli", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environment({}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def looked(hour: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime(2026, 11, 27, hour, tzinfo=UTC))
    return stamp


def test_a_purge_goes_on_step_by_step_to_the_end(hyrex: Hyrex) -> None:
    steps = Steps(
        [
            queues.PurgeQueueResponse(cancelled=70_000, next_step="second"),
            queues.PurgeQueueResponse(cancelled=60_000, next_step="third"),
            queues.PurgeQueueResponse(cancelled=5),
        ]
    )
    with scripted(steps) as url:
        done = hyrex("queue", "purge", "large", "--yes", "--broker-url", url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cancelled 130005 tasks of large\n"
    assert done.stderr.splitlines() == ["cancelled 70000 tasks so far", "cancelled 130000 tasks so far"]
    assert [request.step for request in steps.asked] == ["", "second", "third"]
    assert all(request.in_steps for request in steps.asked)


def test_a_purge_that_is_broken_off_says_what_it_has_done(hyrex: Hyrex) -> None:
    steps = Steps(
        [
            queues.PurgeQueueResponse(cancelled=70_000, next_step="second"),
            grpc.StatusCode.INTERNAL,
        ]
    )
    with scripted(steps) as url:
        done = hyrex("queue", "purge", "large", "--yes", "--broker-url", url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "70000 tasks are cancelled, the same command goes on with the rest" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_list_looks_on_behind_pages_that_are_empty(hyrex: Hyrex) -> None:
    """Of a rare queue in a large table a page may have nothing, although there is more."""
    rare = [task_pb2.Task(task_id=ID.format(number), name="rare", queue="rare") for number in (1, 2)]
    steps = Steps(
        [
            tasks.ListTasksResponse(next_page_token="b", looked_back_to=looked(11)),
            tasks.ListTasksResponse(tasks=rare[:1], next_page_token="c", looked_back_to=looked(10)),
            tasks.ListTasksResponse(tasks=rare[1:]),
        ]
    )
    with scripted(steps) as url:
        done = hyrex("task", "list", "-q", "rare", "--broker-url", url)
    assert done.returncode == 0, done.stderr
    assert all(task.task_id in done.stdout for task in rare), done.stdout
    assert [request.page_token for request in steps.asked] == ["", "b", "c"]
    first, second = done.stderr.splitlines()
    assert first.startswith("looked back to ")
    assert first.endswith(": 0 so far")
    assert second.endswith(": 1 so far")


def test_a_list_that_ends_for_its_time_says_how_far_it_looked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(task_list, "_LOOK_ON_S", 0.0)
    steps = Steps([tasks.ListTasksResponse(next_page_token="b", looked_back_to=looked(10))])
    with scripted(steps) as url:
        task_list.list_tasks(queue="rare", broker_url=url)
    printed = capsys.readouterr().out
    assert len(steps.asked) == 1
    assert "looked at everything back to 2026-11-27" in printed
    assert "more: --page b" in printed


def test_each_page_of_a_list_has_the_time_of_a_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list of 100,000 schedules ended with "no answer within 10 s", though each page came at once."""
    monkeypatch.setattr(connection, "CALL_TIMEOUT_S", 5.0)
    # What a call takes that does not say how long it may.
    monkeypatch.setattr(connection.ask, "__defaults__", (2.0,))
    names = [f"nightly {number}" for number in range(4)]
    pages = [
        schedules.ListSchedulesResponse(
            schedules=[schedules.Schedule(definition=ScheduleDefinition(name=name))],
            next_page_token=name * (name != names[-1]),
        )
        for name in names
    ]
    with scripted(Steps(pages, takes_s=0.8)) as url:
        schedule.list_schedules(broker_url=url, as_json=True)
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    monkeypatch.setattr(connection, "CALL_TIMEOUT_S", 0.2)
    with scripted(Steps(pages, takes_s=0.8)) as url, pytest.raises(CommandError, match="no answer from"):
        schedule.list_schedules(broker_url=url, as_json=True)
