"""A program that has sent tasks ends without a word, however many connections it had."""

import subprocess
import sys

import pytest

from hyrex import HyrexRegistry
from hyrex.v1 import task_pb2, task_service_pb2
from tests.support.scripted_tasks import ScriptedTasks, Server, stored

hy = HyrexRegistry()
PROGRAMS = 6

SCRIPT = """
from tests.integration.sdk.test_program_ends import add

add.send(1).result(timeout=20)
add.with_config(queue="other").send(2).result(timeout=20)
"""


@hy.task
def add(a: int) -> int:
    return a


def completing() -> ScriptedTasks:
    """A broker that says of each task that it completed."""
    tasks = ScriptedTasks()

    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        run = task_pb2.TaskRun(status=task_pb2.RUN_STATUS_COMPLETED, result=b"7")
        tasks.put(task_pb2.Task(task_id=task.task_id, status=task_pb2.TASK_STATUS_COMPLETED, runs=[run]))
        return stored(task)

    tasks.answer = answer
    return tasks


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_program_with_two_cells_ends_without_a_word(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of both cells share gRPC's thread, and one of them is closed first."""
    first, second = Server(completing()), Server(completing())
    monkeypatch.setenv("HYREX_CELLS", f"other={second.url};*={first.url}")
    without = "" if loop == "uvloop" else "import sys; sys.modules['uvloop'] = None\n"
    try:
        programs = [
            subprocess.Popen(
                [sys.executable, "-c", without + SCRIPT],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(PROGRAMS)
        ]
        said = [program.communicate(timeout=100)[0] for program in programs]
    finally:
        first.stop()
        second.stop()
    assert [program.returncode for program in programs] == [0] * PROGRAMS, said
    assert said == [""] * PROGRAMS
