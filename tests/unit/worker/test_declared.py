"""Which schedules of its app a worker declares in its Hello."""

import pytest

from hyrex import HyrexRegistry
from hyrex.v1 import task_pb2
from hyrex.worker.child.target import _schedule_info
from hyrex.worker.shared.child_messages import Imported, ScheduleInfo, TaskInfo
from hyrex.worker.shared.memory import TrustCell, create_fd
from hyrex.worker.shared.options import WorkerOptions
from hyrex.worker.stream import convert
from hyrex.worker.stream.declared import registration_of
from hyrex.worker.stream.session import WorkerSession

VIDEO, REST = "grpc://localhost:1,grpc://localhost:3", "grpc://localhost:2"


def declared(url: str, *queues: str) -> list[str]:
    """The names of what a worker's Hello declares, of an app with a schedule in each of two queues."""
    tasks = [TaskInfo(name, queue, False) for name, queue in (("cut", "video-hd"), ("report", "mail"))]
    schedules = [ScheduleInfo(task, "@daily", "UTC", b"{}", {}, {}) for task in tasks]
    options = WorkerOptions(target="a:b", queues=queues, broker_url=url)
    registration = registration_of(options, Imported(tasks, [], schedules))
    hello = convert.hello(registration, WorkerSession(TrustCell(create_fd(TrustCell.SIZE_BYTES))), {}).hello
    assert [task.name for task in hello.tasks] == ["cut", "report"]
    return [schedule.name for schedule in hello.schedules]


def test_a_worker_declares_the_schedules_of_the_queues_that_it_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HYREX_CELLS", raising=False)
    found = [declared(REST, *queues) for queues in (("*",), ("video*",), ("mail", "other"), ("none",))]
    assert found == [["cut", "report"], ["cut"], ["report"], []]


def test_of_two_cells_each_is_told_the_schedules_of_its_own_queues(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even by workers for all queues, else each slot's task would be stored once in each cell."""
    monkeypatch.setenv("HYREX_CELLS", f"video*={VIDEO};*={REST}")
    assert (declared("grpc://localhost:3", "*"), declared(REST, "*")) == (["cut"], ["report"])
    assert declared("grpc://localhost:4", "*") == []
    assert "other brokers than grpc://localhost:4 for their queues: cut, report" in caplog.text


def test_a_schedule_of_code_has_the_keys_of_its_tasks_arguments() -> None:
    @HyrexRegistry().task(
        cron="@daily",
        concurrency_key=lambda tenant: tenant,
        max_per_key=2,
        on_full="refuse",
        fair_key=lambda tenant: f"{tenant}!",
    )
    def report(tenant: str = "ada") -> None: ...

    task = convert._schedule(_schedule_info(report)).task
    assert (task.concurrency_key, task.fair_key, task.max_per_key) == ("ada", "ada!", 2)
    assert task.on_full == task_pb2.ON_FULL_REFUSE
