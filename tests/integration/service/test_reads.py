"""A task reads as its rows say, whichever table holds them."""

import pytest

from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import RunStatusView
from hyrex_broker.domain.waiting import waiting_for
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.reads import FULL, LISTED, WATCHED, TaskReads
from tests.integration.service.seeding import Seed, make_id


@pytest.fixture
def reads(database: Database) -> TaskReads:
    return TaskReads(database)


async def test_an_unknown_task_is_missing(reads: TaskReads) -> None:
    assert await reads.task(make_id()) is None


async def test_a_ready_task_is_queued_with_all_that_was_submitted(reads: TaskReads, seed: Seed) -> None:
    parent = make_id()
    task_id = await seed.ready(
        await seed.task(
            payload=b"[1]", parent_id=parent, root_id=parent, headers='{"h": "1"}', labels='{"l": "2"}'
        )
    )
    task = await reads.task(task_id)
    assert task is not None
    assert (task.state, task.queue, task.name, task.payload) == (TaskState.QUEUED, "default", "greet", b"[1]")
    assert (task.parent_id, task.root_id) == (parent, parent)
    assert (task.headers, task.labels, task.runs) == ({"h": "1"}, {"l": "2"}, ())


async def test_a_delayed_task_is_scheduled_first_and_retrying_later(reads: TaskReads, seed: Seed) -> None:
    scheduled = await seed.delayed(await seed.task())
    retrying = await seed.run(await seed.delayed(await seed.task(), run_number=1), 3, final=False, error="E")
    first, second = await reads.tasks([scheduled, retrying], FULL)
    assert (first.state, second.state) == (TaskState.SCHEDULED, TaskState.RETRYING)
    assert first.run_at is not None
    assert [run.state for run in second.runs] == [RunStatusView.FAILED]


async def test_the_runs_of_a_running_task_include_the_one_now_running(reads: TaskReads, seed: Seed) -> None:
    session = await seed.session(worker="ada")
    task_id = await seed.run(await seed.task(), 3, 0, final=False, error="ValueError", session_id=session)
    await seed.lease(task_id, session, run_number=1)
    task = await reads.task(task_id)
    assert task is not None
    assert task.state is TaskState.RUNNING
    assert [(run.run_number, run.state, run.worker) for run in task.runs] == [
        (0, RunStatusView.FAILED, "ada"),
        (1, RunStatusView.RUNNING, "ada"),
    ]
    assert task.runs[0].error_type == task.runs[0].traceback == "ValueError"
    assert task.runs[1].started_at is not None


async def test_a_flagged_lease_says_that_cancel_was_requested(reads: TaskReads, seed: Seed) -> None:
    task_id = await seed.lease(await seed.task(), await seed.session())
    await seed.execute("update lease set cancel_at = now(), cancel_reason = 'x'")
    task = await reads.task(task_id)
    assert task is not None
    assert task.cancel_requested


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (2, TaskState.COMPLETED),
        (3, TaskState.FAILED),
        (4, TaskState.TIMED_OUT),
        (5, TaskState.CANCELLED),
        (6, TaskState.LOST),
    ],
)
async def test_an_ended_task_stands_where_its_highest_run_ended(
    reads: TaskReads, seed: Seed, outcome: int, state: TaskState
) -> None:
    task_id = await seed.run(await seed.task(), 3, 0, final=False)
    await seed.run(task_id, outcome, 1, result=b"1" if outcome == 2 else None)
    task = await reads.task(task_id)
    assert task is not None
    assert (task.state, [run.run_number for run in task.runs]) == (state, [0, 1])


async def test_a_reopened_task_is_queued_again(reads: TaskReads, seed: Seed) -> None:
    task_id = await seed.ready(await seed.run(await seed.task(), 3), run_number=1)
    task = await reads.task(task_id)
    assert task is not None
    assert task.state is TaskState.QUEUED


async def test_watchers_get_small_results_and_the_size_of_large_ones(reads: TaskReads, seed: Seed) -> None:
    small = await seed.run(await seed.task(), result=b"1")
    large = await seed.run(await seed.task(), result=b"x" * 20_000)
    views = {view.task_id: view for view in await reads.tasks([small, large], WATCHED)}
    assert (views[small].runs[0].result, views[small].left_out_bytes) == (b"1", 0)
    assert (views[large].runs[0].result, views[large].left_out_bytes) == (None, 20_000)


async def test_lists_carry_the_newest_run_without_payload_and_result(reads: TaskReads, seed: Seed) -> None:
    task_id = await seed.run(await seed.task(payload=b"[1]"), 3, 0, final=False, error="E")
    await seed.run(task_id, 2, 1, result=b"1")
    (task,) = await reads.tasks([task_id], LISTED)
    assert (task.payload, task.headers) == (None, None)
    assert [(run.run_number, run.result, run.traceback) for run in task.runs] == [(1, None, None)]


async def test_a_queued_task_says_what_it_waits_for(reads: TaskReads, seed: Seed) -> None:
    async def words(queue: str = "mail", name: str = "charge") -> str:
        return waiting_for(queue, name, await reads.run_conditions(queue, name))

    task_id = await seed.ready(await seed.task(queue="mail", name="charge"))
    await seed.session(ttl_s=-1)
    await seed.session(ended=True)
    await seed.session(draining=True)
    assert await words() == "no connected worker serves queue 'mail'"
    await seed.session(patterns=("ma*",), tasks=("greet",))
    assert await words() == "no connected worker has charge"
    await seed.session(patterns=("else",), tasks=("charge",))
    assert await words() == "no connected worker that serves queue 'mail' has charge"
    session = await seed.session(patterns=("mail",), tasks=("charge",))
    assert await words() == ""
    await seed.execute("insert into concurrency_limit values (0, 'task', 'charge', 1, 'code')")
    await seed.execute("insert into concurrency_limit values (0, 'queue', 'mail', 2, 'code')")
    await seed.lease(task_id, session)
    assert await words() == "the limit of task charge (1) is reached"
    await seed.lease(await seed.task(queue="mail", name="other"), session)
    assert await words() == "the limit of queue 'mail' (2) is reached"
    await seed.execute("update queue set paused = true")
    assert await words() == "queue 'mail' is paused"
