"""Tasks that no worker runs: a call from outside ends them, and they expire and are retried as others."""

from typing import Any

import pytest

from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.model import (
    CancelCause,
    CancelOutcome,
    CompleteOutcome,
    Outcome,
    OutsideEnd,
    RetryOutcome,
    TaskExtras,
    TaskId,
)
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.follow import FIRST
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.statements import NAMES
from tests.integration.engine.bench import Bench
from tests.integration.engine.outbox_calls import ids
from tests.integration.engine.stored_rows import rows
from tests.integration.storage.stage import new_task

YES = OutsideEnd(Outcome.COMPLETED, b"true", reason="ada")


async def asked(bench: Bench, *, key: str | None = None, **extras: Any) -> TaskId:
    """A stored task that waits for a call from outside."""
    task = new_task(extras=TaskExtras(is_outside=True, **extras), key=key)
    await bench.submit([task])
    return task.task_id


async def state(bench: Bench, task_id: TaskId) -> TaskState:
    view = await TaskReads(bench.database).task(task_id)
    assert view is not None
    return view.state


async def test_no_worker_gets_it_and_no_sweep_lets_it_go_on(bench: Bench) -> None:
    _, link = await bench.worker()
    task_id = await asked(bench)
    await bench.engine.follow._store.follow([task_id])
    swept = await bench.engine.follow._store.stuck(FIRST, 100)
    assert swept.task_ids == []
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    assert run.task_id != task_id
    assert await state(bench, task_id) is TaskState.BLOCKED
    assert await bench.engine.outside.complete([run.task_id], YES) == [CompleteOutcome.NOT_WAITING]


async def test_a_call_ends_it_once(bench: Bench) -> None:
    task_id = await asked(bench)
    told = list[TaskId]()
    bench.engine.outside.on_change = told.extend
    assert await bench.engine.outside.complete([task_id], YES) == [CompleteOutcome.ENDED]
    assert told == [task_id]
    assert await bench.engine.outside.complete([task_id], YES) == [CompleteOutcome.FINISHED]
    assert await rows(bench, "select outcome, final, result, reason from task_run") == [
        (2, True, b"true", "ada")
    ]
    assert await ids(bench, "blocked", "task_id") == []


async def test_that_others_have_ended_it_is_confirmed_before_it_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With synchronous replication the end that is seen may not be on the standby yet (replication.py)."""
    first, second = await asked(bench), await asked(bench)
    await bench.engine.outside.complete([first], YES)
    statements: list[str] = []
    fetch, execute = bench.database.fetch, bench.database.execute

    async def noted(sql: str, *args: Any, **options: Any) -> Any:
        statements.append(NAMES.get(sql, ""))
        return await fetch(sql, *args, **options)

    async def noted_too(sql: str, *args: Any, **options: Any) -> Any:
        statements.append(NAMES.get(sql, ""))
        return await execute(sql, *args, **options)

    monkeypatch.setattr(bench.database, "fetch", noted)
    monkeypatch.setattr(bench.database, "execute", noted_too)
    ends = await bench.engine.outside.complete([first, second], YES)
    assert ends == [CompleteOutcome.FINISHED, CompleteOutcome.ENDED]
    assert statements == ["outside.complete", "cancel.standing", "replication.confirm"]


async def test_what_waits_for_its_key_is_ended_by_no_call(bench: Bench) -> None:
    first, second = [new_task(concurrency_key="k", extras=TaskExtras(max_per_key=1)) for _ in range(2)]
    await bench.submit([first])
    await bench.submit([second])
    assert await ids(bench, "blocked", "task_id") == [second.task_id]
    assert await bench.engine.outside.complete([second.task_id], YES) == [CompleteOutcome.NOT_WAITING]


async def test_it_is_retried_to_wait_again(bench: Bench) -> None:
    task_id = await asked(bench)
    no = OutsideEnd(Outcome.FAILED, error_type="Refused", error_message="too dear")
    await bench.engine.outside.complete([task_id], no)
    assert await state(bench, task_id) is TaskState.FAILED
    assert await bench.engine.cancels.retry([task_id]) == [RetryOutcome.REQUEUED]
    assert await rows(bench, "select kind, run_number from blocked") == [(2, 1)]
    assert await ids(bench, "ready", "task_id") == []
    assert await bench.engine.outside.complete([task_id], YES) == [CompleteOutcome.ENDED]
    assert await state(bench, task_id) is TaskState.COMPLETED


async def test_a_cancel_and_its_time_end_it_and_no_call_does_after_that(bench: Bench) -> None:
    cancelled, expiring = await asked(bench), await asked(bench, expires_in_ms=3_600_000)
    assert await bench.engine.cancels.cancel([cancelled], "") == [CancelOutcome.CANCELLED]
    for table, column in (("task", "id"), ("expiry", "task_id")):
        await bench.database.execute(
            f"update {table} set expires_at = expires_at - interval '2 hours' where {column} = $1", expiring
        )
    ends = await bench.engine.outside.complete([cancelled, expiring], YES)
    assert ends == [CompleteOutcome.FINISHED] * 2
    await bench.database.execute("update expiry set look_at = look_at - interval '2 hours'")
    await bench.engine.expiry._store.sweep(await _long_ago(bench), 100)
    assert await rows(bench, "select cause from task_run where task_id = $1", expiring) == [
        (CancelCause.EXPIRED,)
    ]


async def _long_ago(bench: Bench) -> Any:
    ((moment,),) = await rows(bench, "select now() - interval '1 day'")
    return moment


async def test_a_repeated_submit_is_one_task_and_a_key_belongs_to_the_first(bench: Bench) -> None:
    task = new_task(extras=TaskExtras(is_outside=True), key="k")
    first = await bench.submit([task])
    again = await bench.submit([task])
    other = await bench.submit([new_task(extras=TaskExtras(is_outside=True), key="k")])
    assert [getattr(answers[0], "task_id", None) for answers in (first, again, other)] == [task.task_id] * 3
    assert await ids(bench) == await ids(bench, "blocked", "task_id") == [task.task_id]


@pytest.mark.parametrize(
    "said",
    [
        {"max_retries": 1},
        {"timeout": {"seconds": 1}},
        {"retry_delay": {"seconds": 1}},
        {"delay": {"seconds": 1}},
        {"delay": {}},
        {"run_at": {"seconds": 1}},
        {"max_per_key": 2},
        {"on_full": 1},
        {"concurrency_key": "k"},
        {"fair_key": "k"},
        {"debounce_key": "k", "delay": {"seconds": 1}},
    ],
)
def test_what_is_said_of_runs_is_refused(said: dict[str, Any]) -> None:
    from hyrex.v1 import task_pb2
    from hyrex_broker.service.groups import SubmitReader
    from tests.integration.storage.stage import make_id

    task = task_pb2.NewTask(task_id=str(make_id()), name="ask", queue="q", outside=True, **said)
    refused = SubmitReader(1000).tasks([task]).refused
    assert isinstance(refused[0], InvalidField)
    assert refused[0].metadata["field"] in {*said, "start"}
