"""What no task can be made of: a bad call is refused, and a bad row is put aside and holds up no other."""

from typing import Any

import asyncpg
import pytest

from hyrex_broker.domain.model import TaskId
from tests.integration.engine.bench import Bench
from tests.integration.engine.outbox_calls import enqueue, enqueue_many, ids, relay_all, stilled
from tests.integration.engine.stored_rows import rows


@pytest.mark.parametrize("option", ["timeout_seconds", "priority", "max_retries", "retry_delay_seconds"])
async def test_a_text_where_a_number_belongs_holds_up_no_other_row(
    bench: Bench, caller: Any, option: str
) -> None:
    """Postgres makes a number of 'NaN' and refuses to go on with an error that is not one of data."""
    relay = await stilled(bench)
    await relay.relay_next()
    bad, good = await enqueue(caller), await enqueue(caller)
    await caller.execute(
        "update outbox set options = jsonb_build_object($2::text, 'NaN') where id = $1", bad, option
    )
    await relay_all(relay)
    assert (await ids(bench), await ids(bench, "outbox")) == ([good], [bad])


async def test_an_id_of_no_day_holds_up_no_other_row(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    bad, good = await enqueue(caller), await enqueue(caller)
    far = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    await caller.execute("update outbox set id = $2 where id = $1", bad, far)
    await relay_all(relay)
    assert (await ids(bench), await ids(bench, "outbox")) == ([good], [far])
    assert await relay.relay_now([TaskId(far)]) == {TaskId(far)}


UNFIT = (
    ('options = \'{"headers": {"a": 1}}\'', "headers and labels must be objects of texts"),
    ('options = \'{"headers": [{"a": "b"}]}\'', "headers and labels must be objects of texts"),
    ('options = \'{"labels": "a"}\'', "headers and labels must be objects of texts"),
    ("run_at = 'infinity'", "run_at must lie between the years 1970 and 2200"),
    ("run_at = '200000-01-01Z'", "run_at must lie between the years 1970 and 2200"),
    ("enqueued_at = '-infinity'", "enqueued_at must lie between the years 1970 and 2200"),
    ("enqueued_at = '200000-01-01Z'", "enqueued_at must lie between the years 1970 and 2200"),
    ("task = ''", "the name of its task must have 1 to 255 bytes, got ''"),
    ("queue = repeat('q', 256)", "the name of its queue must have 1 to 255 bytes, got 'qqq"),
)


@pytest.mark.parametrize(("change", "reason"), UNFIT)
async def test_what_no_task_may_have_makes_none(bench: Bench, caller: Any, change: str, reason: str) -> None:
    """A task with a number among its headers ended each look of the dispatcher, and one with a time of the
    year 200000 each list."""
    relay = await stilled(bench)
    await relay.relay_next()
    bad, good = await enqueue(caller), await enqueue(caller, headers={"a": "b"}, labels={"c": "d"})
    await caller.execute(f"update outbox set {change} where id = $1", bad)
    await relay_all(relay)
    assert (await ids(bench), await ids(bench, "outbox")) == ([good], [bad])
    ((told,),) = await rows(bench, "select reason from outbox")
    assert reason in told
    await relay.retry_refused()
    assert await relay.retry([TaskId(bad)])
    assert await ids(bench) == [good]


async def test_a_row_that_the_database_refuses_is_put_aside_alone(bench: Bench, caller: Any) -> None:
    """Rule 6. What is put aside is tried again: it may have been mended."""
    relay = await stilled(bench)
    await relay.relay_next()
    await enqueue_many(caller, 20)
    # Not by enqueue(), which refuses it: a row of somebody who may write to the table.
    bad = await enqueue(caller)
    await caller.execute("update outbox set options = '{\"priority\": 99}' where id = $1", bad)
    await relay_all(relay)
    assert await rows(bench, "select count(*) from task") == [(20,)]
    ((row, held, reason),) = await rows(bench, "select id::text, held, reason from outbox")
    assert (row, held) == (bad, "refused")
    assert "the database refused it" in reason
    assert bench.database.counters.held_back == {"refused": 1}
    await relay.retry_refused()
    assert await ids(bench, "outbox") == [bad]
    assert bench.database.counters.held_back == {"refused": 1}  # it stays as it is
    await bench.database.execute("update outbox set options = '{}'")
    await relay.retry_refused()
    assert await ids(bench, "outbox") == []
    assert bad in await ids(bench)


async def test_an_option_of_a_later_version_waits_for_a_broker_that_knows_it(
    bench: Bench, caller: Any
) -> None:
    """A task never runs without what was asked of it."""
    relay = await stilled(bench)
    await relay.relay_next()
    made = await enqueue(caller)
    await caller.execute("update outbox set options = '{\"expires_in_years\": 1}'")
    good = await enqueue(caller)
    await relay_all(relay)
    assert await ids(bench) == [good]
    ((row, reason),) = await rows(bench, "select id::text, reason from outbox where held = 'refused'")
    assert row == made
    assert reason == "this broker does not know option 'expires_in_years'; update the brokers"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("''", "the name of a task must have 1 to 255 bytes"),
        ("repeat('x', 256)", "the name of a task must have 1 to 255 bytes"),
        ("null", "the name of a task must have 1 to 255 bytes, got null"),
        ("'w', '[1]'", "must be a JSON object of the task's arguments"),
        ("'w', null", "must be a JSON object of the task's arguments"),
        ("'w', jsonb_build_object('a', repeat('x', 4194304))", "at most 4194304 bytes"),
        ("'w', '{}', ''", "the name of a queue must have 1 to 255 bytes"),
        ("'w', '{}', 'q', '[]'", "options must be a JSON object"),
        ("'w', '{}', 'q', null", "options must be a JSON object"),
        ("'w', '{}', 'q', '{\"prio\": 1}'", "no option is called 'prio'"),
        ("'w', '{}', 'q', '{\"priority\": 11}'", "option priority must be an integer from 1 to 10, got 11"),
        ("'w', '{}', 'q', '{\"priority\": \"1\"}'", 'got "1"'),
        ("'w', '{}', 'q', '{\"max_retries\": 1.5}'", "option max_retries must be an integer"),
        ("'w', '{}', 'q', '{\"max_per_key\": 2}'", "are for tasks with a concurrency_key"),
        ("'w', '{}', 'q', '{\"concurrency_key\": \"k\", \"max_per_key\": 1001}'", "from 1 to 1000"),
        ("'w', '{}', 'q', '{\"concurrency_key\": \"k\", \"on_full\": \"drop\"}'", "must be wait or refuse"),
        ("'w', '{}', 'q', '{\"fair_key\": 7}'", "option fair_key must be a text"),
        ("'w', '{}', 'q', '{\"timeout_seconds\": 0}'", "option timeout_seconds must be seconds above 0"),
        ("'w', '{}', 'q', '{\"delay_seconds\": -1}'", "option delay_seconds must be seconds from 0"),
        (
            "'w', '{}', 'q', '{\"run_at\": \"2026-01-01T00:00:00\"}'",
            "option run_at must be a time with its zone",
        ),
        ("'w', '{}', 'q', '{\"run_at\": \"9026-01-01T00:00:00Z\"}'", "between the years 1970 and 2200"),
        ("'w', '{}', 'q', '{\"headers\": {\"a\": 1}}'", "option headers must be an object of texts"),
        ("'w', '{}', 'q', '{\"labels\": {\"\": \"a\"}}'", "option labels must be an object of texts"),
        (
            "'w', '{}', 'q', jsonb_build_object('labels', jsonb_build_object('a', repeat('x', 65537)))",
            "65536",
        ),
    ],
)
async def test_a_bad_call_is_told_what_was_wrong_and_stores_nothing(
    bench: Bench, caller: Any, call: str, told: str
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError) as caught:
        await caller.execute(f"select hyrex.enqueue({call})")
    assert told in str(caught.value)
    assert await ids(bench, "outbox") == []
