"""No interrupt comes after the code of a run."""

import pytest

from hyrex.worker.child.execution import Execution
from hyrex.worker.child.sync_runner import _leave
from hyrex.worker.shared.outcome import StopCause
from hyrex.worker.shared.runs import Run


@pytest.fixture
def execution() -> Execution:
    made = Execution.of(Run("name", "queue", token=1, task_id="", payload=b"{}"), "worker")
    made.interruptible = True
    return made


def test_who_has_asked_and_comes_late_finds_the_gate_taken(execution: Execution) -> None:
    execution.ask_to_stop(StopCause.CANCEL)
    _leave(execution)
    assert not execution.gate.acquire(blocking=False)


def test_who_asks_afterwards_finds_nothing_to_interrupt(execution: Execution) -> None:
    _leave(execution)
    execution.ask_to_stop(StopCause.CANCEL)
    assert not execution.interruptible
