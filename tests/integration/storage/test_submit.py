"""Submits are repeatable, keys are unique, and nothing is stored in halves."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyrex_broker.domain.keys import KeyHolder
from hyrex_broker.domain.model import Outcome, TaskExtras
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.sqlstates import StatementRefused
from tests.integration.storage.stage import Stage, make_id, new_task
from tests.integration.storage.waits import until_blocked


async def test_a_task_is_stored_once_however_often_it_is_submitted(stage: Stage) -> None:
    task = new_task()
    assert await stage.submit(task) == {task.task_id: False}
    assert await stage.submit(task) == {}
    assert await stage.execute("select count(*) from ready") == 1


async def test_the_same_id_with_other_content_is_seen_by_its_digest(stage: Stage) -> None:
    task = new_task(payload=b"1")
    await stage.submit(task)
    other = new_task(task.task_id, payload=b"2")
    known = (await stage.classify(other))[task.task_id]
    assert known.digest == task.digest != other.digest


async def test_two_brokers_that_get_the_same_task_at_once_store_it_once(stage: Stage, rival: Stage) -> None:
    tasks = [new_task() for _ in range(50)]
    stored = await asyncio.gather(stage.submit(*tasks), rival.submit(*reversed(tasks)))
    assert sorted([*stored[0], *stored[1]]) == sorted(task.task_id for task in tasks)
    assert await stage.execute("select count(*) from ready") == 50


async def test_a_repeated_submit_does_not_revive_a_finished_task(stage: Stage) -> None:
    task = new_task()
    await stage.submit(task)
    opened = await stage.session()
    (run,) = await stage.assign(opened)
    await stage.end(run, Outcome.COMPLETED)
    assert await stage.submit(task) == {}
    assert await stage.state(task.task_id) is TaskState.COMPLETED


async def test_a_taken_idempotency_key_names_its_holder(stage: Stage) -> None:
    first = new_task(key="k")
    second = new_task(key="k")
    assert list(await stage.submit(first)) == [first.task_id]
    assert await stage.submit(second) == {}
    known = await stage.classify(second)
    assert known[second.task_id].digest is None
    assert known[second.task_id].holder == KeyHolder(first.task_id, TaskState.QUEUED, payload_differs=False)


async def holder_of(stage: Stage, key: str, payload: bytes = b"{}") -> KeyHolder:
    """What a second task with the key is told."""
    late = new_task(key=key, payload=payload)
    assert await stage.submit(late) == {}
    holder = (await stage.classify(late))[late.task_id].holder
    assert holder is not None
    return holder


async def test_a_taken_key_tells_whether_the_payload_is_another_one(stage: Stage) -> None:
    """And nothing but the payload: each send has its own delay, labels and trace."""
    await stage.submit(new_task(key="k", extras=TaskExtras(labels={"a": "1"}), payload=b"1"))
    assert not (await holder_of(stage, "k", b"1")).payload_differs
    assert (await holder_of(stage, "k", b"2")).payload_differs
    assert (await holder_of(stage, "k", b"")).payload_differs


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.RELEASED])
async def test_a_taken_key_tells_how_its_task_ended(stage: Stage, outcome: Outcome) -> None:
    _, run = await stage.running(key="k")
    assert (await holder_of(stage, "k")).state is TaskState.RUNNING
    await stage.end(run, outcome)
    assert (await holder_of(stage, "k")).state is await stage.state(run.task_id)


async def test_a_taken_key_tells_what_its_task_waits_for(stage: Stage) -> None:
    await stage.submit(new_task(key="k", extras=TaskExtras(delay_ms=3_600_000)))
    assert (await holder_of(stage, "k")).state is TaskState.SCHEDULED
    await stage.due_now()
    assert (await holder_of(stage, "k")).state is TaskState.QUEUED
    await stage.execute("delete from ready")
    _, run = await stage.running(key="l", max_retries=1)
    await stage.end(run, Outcome.FAILED, retry_delay_ms=3_600_000)
    assert (await holder_of(stage, "l")).state is TaskState.RETRYING


async def test_one_key_twice_in_a_batch_stores_one_task(stage: Stage) -> None:
    tasks = [new_task(key="k") for _ in range(3)]
    assert len(await stage.submit(*tasks)) == 1
    assert await stage.execute("select count(*) from task") == 1


async def test_keys_of_different_tasks_do_not_meet(stage: Stage) -> None:
    stored = await stage.submit(new_task(key="k"), new_task(key="k", name="other"))
    assert len(stored) == 2


async def test_a_submit_that_lost_the_race_for_a_key_waits_and_then_finds_the_winner(
    stage: Stage, connection: Any
) -> None:
    """Rule 4: its own snapshot shows neither key nor task; the statement after it does."""
    winner = new_task()
    await stage.submit(winner)
    loser = new_task(key="k")
    async with connection.transaction():
        await connection.execute("insert into idempotency values (0, 'work', 'k', $1)", winner.task_id)
        losing = asyncio.create_task(stage.submit(loser))
        await until_blocked(connection)
    assert await losing == {}
    known = await stage.classify(loser)
    assert known[loser.task_id].holder == KeyHolder(winner.task_id, TaskState.QUEUED, payload_differs=False)


async def gone_with_its_key_left(stage: Stage, key: str) -> None:
    """A key whose task is no more."""
    await stage.submit(new_task(key=key))
    for table in ("ready", "task"):
        await stage.execute(f"delete from {table}")


async def test_a_key_whose_task_is_gone_is_free(stage: Stage) -> None:
    await gone_with_its_key_left(stage, "k")
    tasks = [new_task(key="k") for _ in range(3)]
    known = await stage.classify(*tasks)
    assert [known[task.task_id].holder for task in tasks] == [None] * 3
    (winner,) = await stage.submit(*tasks)
    known = await stage.classify(*tasks)
    holders = {known[task.task_id].holder for task in tasks}
    assert holders == {KeyHolder(winner, TaskState.QUEUED, payload_differs=False)}


async def test_two_brokers_that_free_a_key_at_once_store_one_task(stage: Stage, rival: Stage) -> None:
    await rival.lane()
    for round_number in range(5):
        keys = [f"{round_number}-{n}" for n in range(20)]
        for key in keys:
            await gone_with_its_key_left(stage, key)
        batches = [[new_task(key=key) for key in order]
                   for order in (keys, keys[::-1])]  # fmt: skip
        stored = await asyncio.gather(stage.submit(*batches[0]), rival.submit(*batches[1]))
        assert len([*stored[0], *stored[1]]) == len(keys)
        assert await stage.execute("select count(*) from task") == len(keys)


async def test_a_refused_duplicate_claims_no_key(stage: Stage) -> None:
    task = new_task()
    await stage.submit(task)
    await stage.submit(new_task(task.task_id, payload=b"2", key="k"))
    other = new_task(key="k")
    assert list(await stage.submit(other)) == [other.task_id]


async def test_tasks_with_a_delay_or_a_time_wait_for_it(stage: Stage) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    delayed, timed, past = (
        new_task(extras=TaskExtras(delay_ms=60_000)),
        new_task(extras=TaskExtras(run_at=later)),
        new_task(extras=TaskExtras(run_at=later - timedelta(hours=1))),
    )
    stored = await stage.submit(delayed, timed, past)
    assert stored == {delayed.task_id: True, timed.task_id: True, past.task_id: False}
    assert await stage.state(timed.task_id) is TaskState.SCHEDULED
    assert await stage.state(past.task_id) is TaskState.QUEUED


@pytest.mark.parametrize(
    ("bad", "sqlstate"),
    [
        (new_task(make_id(1)), "23"),
        (new_task(extras=TaskExtras(labels={"a": "\0"})), "22"),
        (new_task(key="k" * 3000 + "".join(map(chr, range(200, 4000)))), "54"),
    ],
    ids=["an id without a partition", "NUL in a text", "an oversized key"],
)
async def test_what_postgres_refuses_is_refused_as_such_and_stores_nothing(
    stage: Stage, bad: Any, sqlstate: str
) -> None:
    """Rule 6: the class of the error says that one item is at fault, so the batch is bisected."""
    with pytest.raises(StatementRefused) as refused:
        await stage.submit(new_task(), bad)
    assert refused.value.sqlstate.startswith(sqlstate)
    assert await stage.execute("select count(*) from task") == 0
    assert await stage.execute("select count(*) from idempotency") == 0
