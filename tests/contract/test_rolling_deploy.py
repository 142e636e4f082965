"""While a deploy is under way, senders and workers have different code; no task is lost by it."""

import pytest

from tests.contract import rolling_new
from tests.support.eventually import eventually
from tests.support.processes import Processes, RunningBroker


@pytest.mark.usefixtures("served")
def test_a_task_of_the_next_version_waits_for_a_worker_that_has_it(
    contract_processes: Processes, shared_broker: RunningBroker
) -> None:
    old = contract_processes.worker(shared_broker.url, "tests.contract.rolling_old:app", "-p", "1")
    assert rolling_new.charge.send(1).result(timeout=30) == "1 of yesterday"
    handle = rolling_new.charge.send(2, "CHF")

    def said() -> str:
        handle.refresh()
        return handle.waiting_for

    assert "they do not fit rolling.charge here: currency: Extra inputs" in eventually(said)
    new = contract_processes.worker(shared_broker.url, "tests.contract.rolling_new:app", "-p", "1")
    old.end_group()
    assert handle.result(timeout=60) == "2 CHF"
    assert {run.status for run in handle.task_runs[:-1]} == {"released"}
    assert handle.task_runs[-1].attempt_number == 0
    new.end_group()
