"""Tasks that parse dates, and what a broker says of them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from hyrex import HyrexRegistry
from hyrex.v1.task_pb2 import RunStatus, Task, TaskRun, TaskStatus

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
