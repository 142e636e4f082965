"""An id of the outbox is its task's (rule 41): found, watched and cancelled from the caller's commit on."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from hyrex_broker.domain.model import CancelOutcome, Outcome, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.reads import FULL, TaskReads
from tests.integration.engine.bench import Bench
from tests.integration.engine.outbox_calls import enqueue, ids, relay_all, stilled
from tests.integration.engine.stored_rows import rows
from tests.integration.storage.stage import Ended


async def test_a_task_is_found_from_the_commit_on_and_as_it_is_after_it_was_relayed(
    bench: Bench, caller: Any
) -> None:
    relay, reads = await stilled(bench), TaskReads(bench.database)
    await relay.relay_next()
    transaction = caller.transaction()
    await transaction.start()
    own, texts = {"priority": 7, "max_retries": 2, "timeout_seconds": 2.5}, {"a": "b"}
    made = TaskId(await enqueue(caller, "work", "mails", labels=texts, headers=texts, **own))
    later = TaskId(await enqueue(caller, delay_seconds=600))
    assert await reads.task(made) is None
    await transaction.commit()
    before, scheduled = await reads.tasks([made, later], FULL)
    assert before.in_outbox == "it is in the outbox, from which a broker takes it in a moment"
    assert (before.state, scheduled.state) == (TaskState.QUEUED, TaskState.SCHEDULED)
    assert await reads.queues_of([made, later]) == {made: "mails", later: "default"}
    await relay_all(relay)
    after = await reads.task(made)
    assert after is not None
    same = "name queue rank max_retries timeout_ms state submitted_at labels headers payload runs carried"
    for name in same.split():
        assert getattr(after, name) == getattr(before, name), name
    assert after.in_outbox == ""


async def test_a_task_that_is_relayed_between_two_looks_is_found_all_the_same(
    bench: Bench, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, reads = await stilled(bench), TaskReads(bench.database)
    await relay.relay_next()
    made = TaskId(await enqueue(caller))
    stored = reads._stored

    async def overtaken(task_ids: Any, detail: Any) -> Any:
        found = await stored(task_ids, detail)
        await relay_all(relay)  # after the look at tasks, before that at the outbox
        return found

    monkeypatch.setattr(reads, "_stored", overtaken)
    assert [view.task_id for view in await reads.tasks([made], FULL)] == [made]


async def test_a_watch_that_began_in_the_outbox_ends_with_the_task(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    made = TaskId(await enqueue(caller))
    states = list[TaskState]()
    async with asyncio.timeout(60), aclosing(bench.engine.watches.watch([made])) as frames:
        async for frame in frames:
            states += [view.state for view in frame]
            if states == [TaskState.QUEUED]:
                session, link = await bench.worker()
                await relay_all(relay)
                (run,) = await link.until_runs(1)
                await bench.report([Ended(run.task_id, run.token, session.session_id, Outcome.COMPLETED)])
    assert states[-1] is TaskState.COMPLETED


async def test_a_cancel_reaches_what_is_in_the_outbox(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    made, unknown = TaskId(await enqueue(caller)), TaskId("0190a6f0-0000-7000-8000-000000000000")
    await bench.database.execute("insert into queue (namespace, name, max_waiting) values (0, 'narrow', 1)")
    await bench.engine.directory.refresh()
    full = [TaskId(await enqueue(caller, queue="narrow")) for _ in range(2)]
    await relay_all(relay)
    waiting = TaskId((await ids(bench, "outbox"))[0])
    assert waiting in full
    fresh = TaskId(await enqueue(caller))
    wanted = [made, waiting, fresh, unknown]
    outcomes = await bench.engine.cancels.cancel(wanted, "no more")
    assert outcomes == [CancelOutcome.CANCELLED] * 3 + [CancelOutcome.NOT_FOUND]
    assert await ids(bench, "outbox") == []
    assert await rows(bench, "select distinct outcome, reason from task_run") == [(5, "no more")]
    assert await bench.engine.cancels.cancel([fresh], "again") == [CancelOutcome.FINISHED]


async def test_a_cancel_removes_what_cannot_become_a_task(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    bad = TaskId(await enqueue(caller))
    await caller.execute("update outbox set options = '{\"later\": 1}'")
    await relay_all(relay)
    (view,) = await TaskReads(bench.database).tasks([bad], FULL)
    assert "no task can be made of it: this broker does not know option 'later'" in view.in_outbox
    assert f"hyrex outbox retry {bad}" in view.in_outbox
    assert await bench.engine.cancels.cancel([bad], "no more") == [CancelOutcome.CANCELLED]
    assert await ids(bench, "outbox") == []
