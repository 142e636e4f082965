"""Every snippet of the API contract, over a real broker and worker."""

import re
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from hyrex import HyrexRegistry, TaskHandle
from tests.contract import more_tasks as more
from tests.contract import seed_tasks as seed
from tests.support.eventually import eventually
from tests.support.postgres import connect, run_apart
from tests.support.process import Process

pytestmark = pytest.mark.usefixtures("served")

CONTRACT = Path(__file__).parents[3] / "shared" / "seed" / "tasks.txt"
WAIT_S = 30.0


def _given_removed(text: str) -> list[str]:
    kept = re.sub(r"(?ms)^# given$.*?^# end given$", "", text)
    return [line.strip() for line in kept.splitlines()[5:] if line.strip()]


@pytest.mark.skipif(not CONTRACT.exists(), reason="the contract's text is not beside this checkout")
def test_the_snippets_tested_are_those_of_the_contract() -> None:
    contract = {line.strip() for line in CONTRACT.read_text().splitlines()}
    mine = _given_removed(Path(seed.__file__).read_text())
    assert [line for line in mine if line not in contract] == []
    assert len(mine) > 80


def test_basic_definition() -> None:
    task = seed.process_file.send(seed.ProcessContext(file_path="/data/input.csv", options={"format": "csv"}))
    assert task.result(timeout=WAIT_S) == {"status": "completed", "file": "/data/input.csv"}


def test_a_parameter_without_a_type_hint_is_refused_at_decoration() -> None:
    hy = HyrexRegistry()

    def untyped(data):  # type: ignore[no-untyped-def]
        return data

    with pytest.raises(TypeError, match=r"(?s)(?=.*untyped)(?=.*data)"):
        hy.task(untyped)


def test_task_configuration() -> None:
    config = seed.configured_task.config
    assert (config.queue, config.max_retries, config.timeout_seconds, config.priority) == (
        "processing",
        3,
        300,
        5,
    )
    assert [seed.configured_task.retry_delay_s(n) for n in (1, 2, 3)] == [10, 20, 30]
    assert seed.configured_task.send({}).result(timeout=WAIT_S) == {"processed": True}


def test_sending_with_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    context = seed.ProcessContext(file_path="a", options={})
    urgent_task = seed.process_file.with_config(queue="high-priority", max_retries=5).send(context)
    print(f"Task ID: {urgent_task.id}")
    assert isinstance(urgent_task.id, UUID)
    assert str(urgent_task.id) in capsys.readouterr().out
    assert urgent_task.wait(timeout=WAIT_S)


def test_the_context_of_a_run() -> None:
    task = seed.task_with_context.send({})
    assert task.result(timeout=WAIT_S) == {"processed_by": str(task.id)}


def test_without_a_run_there_is_no_context() -> None:
    from hyrex import get_hyrex_context

    assert get_hyrex_context() is None


def _attempts(task: TaskHandle[object]) -> list[tuple[int, str]]:
    return [(run.attempt_number, str(run.status)) for run in task.task_runs]


def test_raising_retries_while_retries_remain() -> None:
    task = seed.task_with_retries.send({"fails": 2})
    assert task.result(timeout=WAIT_S) == {"attempt": 2}
    assert _attempts(task) == [(0, "failed"), (1, "failed"), (2, "completed")]


def test_returning_completes_even_with_errors() -> None:
    task = seed.task_with_retries.send({"fails": "permanently"})
    assert task.result(timeout=WAIT_S) == {"error": "no such thing", "status": "failed"}
    assert _attempts(task) == [(0, "completed")]


def test_on_error_runs_on_each_failure_and_changes_nothing(shared_worker: Process) -> None:
    task = seed.monitored_task.send({"fails": 9})
    assert not task.wait(timeout=WAIT_S)
    assert task.status == "failed"
    assert _attempts(task) == [(number, "failed") for number in range(4)]
    error = task.task_runs[-1].error
    assert error is not None
    # The traceback begins in the user's code.
    assert error.traceback.splitlines()[1].strip().startswith(f'File "{seed.__file__}"')
    for attempt in range(4):
        shared_worker.wait_for(rf"Task error: TemporaryError: attempt {attempt}")


def test_retry_backoff_decides_when(contract_database: str) -> None:
    task = more.backs_off.send()
    row = delayed_row(contract_database, str(task.id))
    assert 9 < row["run_at"].timestamp() - row["failed_at"].timestamp() < 11
    task.refresh()
    assert task.status == "retrying"
    task.cancel()


def delayed_row(database_url: str, task_id: str) -> asyncpg.Record:
    """The task's row once it waits for its retry."""

    async def look() -> asyncpg.Record | None:
        connection = await connect(database_url)
        try:
            row: asyncpg.Record | None = await connection.fetchrow(
                "select d.run_at, r.finished_at as failed_at from delayed d join task_run r using (task_id)"
                " where d.task_id = $1",
                task_id,
            )
            return row
        finally:
            await connection.close()

    found = eventually(lambda: run_apart(look()), WAIT_S)
    assert found is not None
    return found


def test_task_results(capsys: pytest.CaptureFixture[str]) -> None:
    context = seed.ProcessContext(file_path="b", options={})
    task = seed.process_file.send(context)
    print(f"Task ID: {task.id}")
    print(f"Task name: {task.task_name}")
    assert list(task.task_runs) == []
    task.wait(timeout=WAIT_S)
    task.refresh()
    for run in task.task_runs:
        print(f"Attempt {run.attempt_number}: {run.status}")
        if run.status == "completed":
            print(f"Result: {run.result}")
    printed = capsys.readouterr().out
    assert "Task name: process_file" in printed
    assert "Attempt 0: completed" in printed
    assert "Result: {'status': 'completed', 'file': 'b'}" in printed


def test_best_practices() -> None:
    order = seed.OrderContext(order_id=1, customer_email="a@example.org", items=[{"sku": 1}])
    assert seed.fast_operation.send(order).result(timeout=WAIT_S) == 1
    assert seed.long_running.send(order).result(timeout=WAIT_S) == [{"sku": 1}]
    payment = seed.process_payment.send(seed.PaymentContext(payment_id=7))
    assert payment.result(timeout=WAIT_S) == "charged 7"
    fetched = seed.fetch_data.send(seed.FetchContext(url="x"))
    assert fetched.result(timeout=WAIT_S) == "fetched x"
    assert _attempts(fetched) == [(0, "failed"), (1, "completed")]
    invalid = seed.fetch_data.send(seed.FetchContext(url="invalid"))
    assert invalid.result(timeout=WAIT_S) == {"error": "not json", "status": "invalid_data"}
