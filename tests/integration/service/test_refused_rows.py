"""Refused rows of the outbox over a real channel: seen, tried again, changed and removed, by who may."""

import json
from collections.abc import Sequence
from typing import Any

import grpc.aio
import pytest

from hyrex.v1 import admin_service_pb2 as wire
from hyrex.v1 import task_service_pb2
from hyrex_broker.domain.model import DismissOutcome, RetryOutcome, TaskId
from hyrex_broker.service import refused as service
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import ROOT, Stubs, reason_of
from tests.support.tokens import bearer, made

RELAYED = wire.RETRY_ROW_OUTCOME_RELAYED
REFUSED = wire.RETRY_ROW_OUTCOME_REFUSED
NOT_FOUND = wire.RETRY_ROW_OUTCOME_NOT_FOUND
UNKNOWN = "this broker does not know option 'later'; update the brokers"


async def refused_row(seed: Seed, queue: str = "mail", name: str = "send", **options: Any) -> str:
    """A refused row; its id."""
    row_id = make_id()
    await seed.execute(
        "insert into outbox (id, task, queue, payload, options, held, reason, held_at)"
        " values ($1, $2, $3, '{\"n\": 1}', $4, 'refused', $5, now())",
        row_id, name, queue, json.dumps(options), UNKNOWN,
    )  # fmt: skip
    return row_id


def listing(**fields: Any) -> wire.ListRefusedRowsRequest:
    return wire.ListRefusedRowsRequest(**fields)


def retry(*ids: str, **change: Any) -> wire.RetryRefusedRowsRequest:
    return wire.RetryRefusedRowsRequest(
        task_ids=ids, change=wire.RefusedRowChange(**change) if change else None
    )


async def test_refused_rows_are_listed_newest_first_page_by_page(stubs: Stubs, seed: Seed) -> None:
    ids = [await refused_row(seed, later=1) for _ in range(5)]
    other = await refused_row(seed, queue="other", name="fetch")
    first = await stubs.admin.ListRefusedRows(listing(page_size=4))
    assert [row.task_id for row in first.rows] == [other, *ids[:1:-1]]
    second = await stubs.admin.ListRefusedRows(listing(page_size=4, page_token=first.next_page_token))
    assert [row.task_id for row in second.rows] == ids[1::-1]
    assert (second.next_page_token, second.beside_away) == ("", False)
    row = second.rows[0]
    assert (row.name, row.queue, row.reason, row.options) == ("send", "mail", UNKNOWN, '{"later": 1}')
    assert (row.size_bytes, row.beside, row.HasField("refused_at")) == (20, False, True)
    for fields in ({"name": "fetch"}, {"queue": "other"}, {"task_id": other}):
        found = await stubs.admin.ListRefusedRows(listing(**fields))
        assert [row.task_id for row in found.rows] == [other]
    wrong = listing(page_size=4, page_token=first.next_page_token, queue="mail")
    assert await reason_of(stubs.admin.ListRefusedRows(wrong)) == "PAGE_TOKEN_INVALID"


async def test_a_page_looks_at_no_more_than_so_many_rows_of_others(
    stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_AT_A_TIME", 2)
    monkeypatch.setattr(service, "_MOST_LOOKED_AT", 4)
    wanted = await refused_row(seed, queue="wanted")
    for _ in range(5):
        await refused_row(seed)
    page = await stubs.admin.ListRefusedRows(listing(queue="wanted"))
    assert (list(page.rows), bool(page.next_page_token)) == ([], True)
    page = await stubs.admin.ListRefusedRows(listing(queue="wanted", page_token=page.next_page_token))
    assert [row.task_id for row in page.rows] == [wanted]


async def test_a_row_whose_cause_is_mended_becomes_a_task(stubs: Stubs, seed: Seed) -> None:
    mended, bad, unknown = await refused_row(seed), await refused_row(seed, later=1), make_id()
    answer = await stubs.admin.RetryRefusedRows(retry(mended, bad, unknown))
    found = [(each.task_id, each.outcome, each.reason) for each in answer.results]
    assert found == [(mended, RELAYED, ""), (bad, REFUSED, UNKNOWN), (unknown, NOT_FOUND, "")]
    stored = await seed.rows("select id::text, (select queue from lane where lane.id = lane) from task")
    assert [tuple(row) for row in stored] == [(mended, "mail")]
    answer = await stubs.admin.RetryRefusedRows(retry(mended))
    assert [each.outcome for each in answer.results] == [NOT_FOUND]


async def test_a_row_is_mended_by_other_options_queue_and_payload(stubs: Stubs, seed: Seed) -> None:
    row_id = await refused_row(seed, later=1, priority=3)
    change = {"options": '{"priority": 9, "delay_seconds": 600}', "queue": "late", "payload": b'{"n": 2}'}
    (result,) = (await stubs.admin.RetryRefusedRows(retry(row_id, **change))).results
    assert (result.outcome, result.reason) == (RELAYED, "")
    (row,) = await seed.rows(
        "select queue, task.rank, payload, run_at - now() between interval '500 s' and interval '600 s'"
        " from task join lane on lane.id = task.lane join delayed on task_id = task.id where task.id = $1",
        row_id,
    )
    assert tuple(row) == ("late", 1, b'{"n": 2}', True)


async def test_what_a_change_leaves_out_stays_and_a_bad_one_stays_refused(stubs: Stubs, seed: Seed) -> None:
    row_id = await refused_row(seed, later=1)
    (result,) = (await stubs.admin.RetryRefusedRows(retry(row_id, queue="else"))).results
    assert (result.outcome, result.reason) == (REFUSED, UNKNOWN)
    (row,) = await seed.rows("select queue, options::text, payload, held from outbox")
    assert tuple(row) == ("else", '{"later": 1}', b'{"n": 1}', "refused")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"options": "{"}, "change.options"),
        ({"options": "[]"}, "change.options"),
        ({"options": '{"later": 1}'}, "change.options.later"),
        ({"options": '{"priority": 11}'}, "change.options"),
        ({"options": '{"on_full": "wait"}'}, "change.options.on_full"),
        ({"options": '{"run_at": "tomorrow"}'}, "change.options.run_at"),
        ({"options": '{"run_at": "2026-01-01T00:00:00"}'}, "change.options.run_at"),
        ({"options": '{"run_at": "2026-01-01T00:00:00Z", "delay_seconds": 1}'}, "change.options.run_at"),
        ({"options": '{"idempotency_key": "\\u0000"}'}, "change"),
        ({"options": " " * (256 * 1024 + 1)}, "change.options"),
        ({"queue": ""}, "change.queue"),
    ],
)
async def test_a_change_is_checked_as_an_enqueue_is(
    stubs: Stubs, seed: Seed, change: dict[str, Any], field: str
) -> None:
    row_id = await refused_row(seed, later=1)
    with pytest.raises(grpc.aio.AioRpcError, match=rf"^(?s:.*){field} ") as caught:
        await stubs.admin.RetryRefusedRows(retry(row_id, **change))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await seed.execute("select options::text from outbox") == '{"later": 1}'


async def test_a_change_is_for_one_row_and_within_the_limit_of_payloads(stubs: Stubs, seed: Seed) -> None:
    ids = [await refused_row(seed) for _ in range(2)]
    assert await reason_of(stubs.admin.RetryRefusedRows(retry(*ids, queue="a"))) == "INVALID_FIELD"
    large = retry(ids[0], payload=bytes(2**20 + 1))
    assert await reason_of(stubs.admin.RetryRefusedRows(large)) == "PAYLOAD_TOO_LARGE"


async def test_a_dismissed_row_is_gone_and_no_other_is(stubs: Stubs, seed: Seed) -> None:
    gone, kept = await refused_row(seed), await refused_row(seed)
    waiting = await seed.execute("select enqueue('send')::text")
    request = wire.DismissRefusedRowsRequest(task_ids=[gone, waiting, make_id()])
    outcomes = [each.outcome for each in (await stubs.admin.DismissRefusedRows(request)).results]
    missing = wire.DISMISS_ROW_OUTCOME_NOT_FOUND
    assert outcomes == [wire.DISMISS_ROW_OUTCOME_DISMISSED, missing, missing]
    left = await seed.rows("select id::text from outbox order by 1")
    assert [row["id"] for row in left] == sorted([kept, waiting])


async def test_rows_of_others_are_not_there(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "read submit", "mail")
    mine, other = await refused_row(seed, later=1), await refused_row(seed, queue="other")
    (row,) = (await guarded.admin.ListRefusedRows(listing(), metadata=own)).rows
    assert not (await guarded.admin.ListRefusedRows(listing(task_id=other), metadata=own)).rows
    assert (row.task_id, row.options) == (mine, "")
    results = (await guarded.admin.RetryRefusedRows(retry(mine, other), metadata=own)).results
    assert [each.outcome for each in results] == [REFUSED, NOT_FOUND]
    request = wire.DismissRefusedRowsRequest(task_ids=[other])
    (result,) = (await guarded.admin.DismissRefusedRows(request, metadata=own)).results
    assert result.outcome == wire.DISMISS_ROW_OUTCOME_NOT_FOUND
    moved = guarded.admin.RetryRefusedRows(retry(mine, queue="other"), metadata=own)
    assert await reason_of(moved) == "RIGHT_MISSING"
    assert await seed.execute("select count(*) from outbox") == 2
    reader = await made(guarded.admin, ROOT, "reader", "read", "*")
    assert await reason_of(guarded.admin.RetryRefusedRows(retry(mine), metadata=reader)) == "RIGHT_MISSING"


async def test_what_was_shown_changed_and_removed_is_in_the_audit(guarded: Stubs, seed: Seed) -> None:
    ids = [await refused_row(seed, later=1) for _ in range(2)]
    root = bearer(ROOT)
    await guarded.admin.ListRefusedRows(listing(), metadata=root)
    await guarded.admin.RetryRefusedRows(retry(ids[0], options="{}"), metadata=root)
    await guarded.admin.RetryRefusedRows(retry(ids[1]), metadata=root)
    await guarded.admin.DismissRefusedRows(wire.DismissRefusedRowsRequest(task_ids=[ids[1]]), metadata=root)
    await guarded.audit.flush()
    noted = await seed.rows("select action, object from audit order by id")
    assert [tuple(row) for row in noted] == [
        ("outbox.change", ids[0]), ("outbox.retry", ids[1]), ("outbox.dismiss", ids[1]), ("outbox.list", ""),
    ]  # fmt: skip


async def test_get_watch_and_why_say_that_a_row_was_refused(stubs: Stubs, seed: Seed) -> None:
    row_id = await refused_row(seed, later=1)
    task = (await stubs.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=row_id))).task
    why = await stubs.admin.Why(wire.WhyRequest(task_id=row_id))
    request = task_service_pb2.WatchTasksRequest(task_ids=[row_id])
    (watched,) = (await stubs.tasks.WatchTasks(request, timeout=60).read()).tasks
    said = {task.waiting_for, why.sentence, watched.waiting_for}
    assert len(said) == 1
    assert f"was refused, since no task can be made of it: {UNKNOWN}" in said.pop()


async def test_retry_dismiss_replay_and_get_workflow_say_that_a_row_was_refused(
    stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent_from(monkeypatch, stubs)
    row_id, waits, unknown = await refused_row(seed, later=1), await refused_row(seed), make_id()
    await seed.execute("update outbox set held = 'full', reason = null where id = $1", waits)
    # Of a workflow that is the caller's in part the engine says so, too.
    ids = [row_id, waits, unknown, await seed.task()]
    retried = (await stubs.tasks.RetryTasks(task_service_pb2.RetryTasksRequest(task_ids=ids))).results
    assert [each.outcome for each in retried] == [
        task_service_pb2.RETRY_OUTCOME_REFUSED,
        task_service_pb2.RETRY_OUTCOME_NOT_FINAL,
        task_service_pb2.RETRY_OUTCOME_NOT_FOUND,
        task_service_pb2.RETRY_OUTCOME_NOT_FOUND,
    ]
    dismissed = (await stubs.tasks.DismissTasks(task_service_pb2.DismissTasksRequest(task_ids=ids))).results
    assert [each.outcome for each in dismissed] == [
        task_service_pb2.DISMISS_OUTCOME_REFUSED,
        task_service_pb2.DISMISS_OUTCOME_NOT_DEAD,
        task_service_pb2.DISMISS_OUTCOME_NOT_FOUND,
        task_service_pb2.DISMISS_OUTCOME_NOT_FOUND,
    ]
    told = retried[0].error
    assert (told.reason, told.code, told.metadata["task_id"]) == ("ROW_REFUSED", 9, row_id)
    assert UNKNOWN in told.message
    assert f"`hyrex outbox retry {row_id}`" in told.message
    assert dismissed[0].error == told
    assert not any(each.HasField("error") for each in (*retried[1:], *dismissed[1:]))
    replay = task_service_pb2.ReplayTaskRequest(task_id=row_id, new_task_id=make_id())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stubs.tasks.ReplayTask(replay)
    assert refused.value.details() == told.message
    assert await reason_of(stubs.tasks.ReplayTask(replay)) == "ROW_REFUSED"


def absent_from(monkeypatch: pytest.MonkeyPatch, stubs: Stubs) -> None:
    """Have the engine find no task, as it does of rows in an outbox."""

    async def retry(task_ids: Sequence[TaskId]) -> list[RetryOutcome]:
        return [RetryOutcome.NOT_FOUND for _ in task_ids]

    async def dismiss(task_ids: Sequence[TaskId], who: str) -> list[DismissOutcome]:
        return [DismissOutcome.NOT_FOUND for _ in task_ids]

    monkeypatch.setattr(stubs.recorded, "retry", retry)
    monkeypatch.setattr(stubs.recorded, "dismiss", dismiss)


async def test_of_rows_of_other_queues_a_token_is_told_nothing(
    guarded: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent_from(monkeypatch, guarded)
    row_id = await refused_row(seed, queue="other", later=1)
    own = await made(guarded.admin, ROOT, "own", "read submit", "mail")
    request = task_service_pb2.RetryTasksRequest(task_ids=[row_id])
    (result,) = (await guarded.tasks.RetryTasks(request, metadata=own)).results
    assert (result.outcome, result.HasField("error")) == (task_service_pb2.RETRY_OUTCOME_NOT_FOUND, False)


@pytest.mark.parametrize(
    "change",
    [
        'options = \'{"priority": "high"}\'',
        'options = \'{"labels": "a"}\'',
        "options = '{\"timeout_seconds\": 1e300}'",
        "enqueued_at = '-infinity', run_at = 'infinity'",
        "enqueued_at = '200000-01-01Z', run_at = '200000-01-01Z'",
        "task = repeat('t', 5000), queue = ''",
    ],
)
async def test_whatever_a_row_holds_its_id_is_told_that_it_was_refused(
    stubs: Stubs, seed: Seed, change: str
) -> None:
    row_id = await refused_row(seed)
    await seed.execute(f"update outbox set {change}")
    task = (await stubs.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=row_id))).task
    assert UNKNOWN in task.waiting_for
    (row,) = (await stubs.admin.ListRefusedRows(listing())).rows
    assert row.task_id == row_id
