"""Tasks with keys that are enqueued in a caller's transaction: they wait, give way and share as others do."""

from typing import Any

import pytest

from hyrex_broker.domain.model import CancelCause, Outcome, TaskId
from hyrex_broker.storage.outbox_views import waiting_tasks
from tests.integration.engine.bench import Bench
from tests.integration.engine.outbox_calls import enqueue, ids, relay_all, stilled
from tests.integration.engine.stored_rows import rows, until_rows
from tests.integration.storage.keys import keyed
from tests.integration.storage.stage import end_of, new_task


@pytest.mark.parametrize("more", [{}, {"idempotency_key": "once"}, {"delay_seconds": 0.001}])
async def test_an_enqueued_task_waits_for_a_seat_of_its_key(
    bench: Bench, caller: Any, more: dict[str, Any]
) -> None:
    _, link = await bench.worker()
    await bench.submit([keyed("k")])
    (first,) = await link.until_runs(1)
    waiting = await enqueue(caller, concurrency_key="k", **more)
    await until_rows(bench, "select task_id::text, key is null from blocked", [(waiting, False)])
    await bench.report([end_of(first, Outcome.COMPLETED)])
    assert (await link.until_runs(2))[1].task_id == waiting


async def test_an_enqueued_task_that_is_not_to_wait_ends_and_says_why(bench: Bench, caller: Any) -> None:
    _, link = await bench.worker()
    await bench.submit([keyed("k")])
    await link.until_runs(1)
    dropped = await enqueue(caller, concurrency_key="k", on_full="refuse")
    await until_rows(bench, "select task_id::text, cause from task_run", [(dropped, CancelCause.KEY_BUSY)])


async def test_an_enqueued_task_goes_to_the_lane_of_its_fair_key_and_shows_its_keys(
    bench: Bench, caller: Any
) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    made = await enqueue(caller, fair_key="ada", concurrency_key="k", max_per_key=2)
    (view,) = await waiting_tasks(bench.database, [TaskId(made)], with_payload=False)
    assert (view.concurrency_key, view.max_per_key, view.fair_key) == ("k", 2, "ada")
    await relay_all(relay)
    await bench.submit([new_task(fair_key="ada", concurrency_key="k")])
    lanes = "select count(*), fair_key, concurrency_key from task group by lane, 2, 3"
    assert await rows(bench, lanes) == [(2, "ada", "k")]
    assert await ids(bench, "outbox") == []
