"""A run that is asked to stop from two sides at once is asked once."""

import socket
from collections.abc import Iterator

import pytest

from hyrex.worker.child.contexts import RunContexts
from hyrex.worker.child.execution import Execution
from hyrex.worker.child.parent_socket import ParentSocket
from hyrex.worker.child.runner import Workplace
from hyrex.worker.child.sync_runner import SyncRunner
from hyrex.worker.shared.child_messages import Stop
from hyrex.worker.shared.memory import Ledger, TrustCell, create_fd
from hyrex.worker.shared.outcome import StopCause
from hyrex.worker.shared.runs import Run


@pytest.fixture
def workplace() -> Iterator[Workplace]:
    here, there = socket.socketpair()
    ledger, trust = Ledger(create_fd(Ledger.size_bytes(1)), 1), TrustCell(create_fd(TrustCell.SIZE_BYTES))
    with here, there:
        to_parent = ParentSocket(here.detach())
        yield Workplace(to_parent, ledger, trust, {}, RunContexts(), "worker", slots=1)
        to_parent.disown()


class Counting(SyncRunner):
    """Counts how often it asks."""

    asked = 0

    def _ask(self, execution: Execution) -> None:
        self.asked += 1


def test_a_timeout_does_not_interrupt_a_run_again_that_is_cancelled_in_that_moment(
    workplace: Workplace,
) -> None:
    runner = Counting(workplace)

    class Overdue(Execution):
        """Is cancelled by the reader thread just when it is found to be overdue."""

        def overdue(self, now_ns: int) -> bool:
            runner.stop(Stop(self.token, StopCause.CANCEL, "not needed"))
            return True

    run = Run(name="task", queue="default", token=1, task_id="", payload=b"{}")
    execution = runner._executions[1] = Overdue.of(run, "worker")
    runner.check(0)
    assert (runner.asked, execution.stop, execution.stop_reason) == (1, StopCause.CANCEL, "not needed")
