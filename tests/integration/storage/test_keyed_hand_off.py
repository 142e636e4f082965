"""Tasks with concurrency keys that find a seat and a worker are leased by the statement that stores them."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.storage.keyed import Placing
from hyrex_broker.storage.sessions import Opened
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.submit import is_repetition
from tests.integration.storage.keys import follow, hand_off, hashed, keyed, submit_keyed, within_maxima
from tests.integration.storage.stage import INFO, SECRET, Ended, Stage
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect

READY, BLOCKED, REFUSED = Placing.READY, Placing.BLOCKED, Placing.REFUSED


async def placed(stage: Stage) -> dict[str, int]:
    """How many rows each of these tables has."""
    tables = ("task", "lease", "ready", "blocked", "seat")
    return {name: await stage.execute(f"select count(*) from {name}") for name in tables}


async def test_what_has_a_seat_is_leased_with_it_and_the_rest_waits(stage: Stage) -> None:
    tasks = [keyed("a", 2), keyed("a", 2), keyed("a", 2), keyed("b", 2)]
    handed = await hand_off(stage, await stage.session(), *tasks)
    assert handed is not None
    assert (handed.unleased, handed.admissions) == ([], [READY, READY, BLOCKED, READY])
    assert await placed(stage) == {"task": 4, "lease": 3, "ready": 0, "blocked": 1, "seat": 3}
    assert await stage.execute("select count(*) from seat join lease using (task_id)") == 3
    of_key = "select count(*) from task where key_hash = $1 and max_per_key = 2 and concurrency_key = 'a'"
    assert await stage.execute(of_key, hashed("a")) == 3


async def test_the_next_of_a_key_goes_on_from_the_end_of_one_that_was_handed_off(stage: Stage) -> None:
    opened = await stage.session()
    first, second = keyed(), keyed()
    await hand_off(stage, opened, first)
    await hand_off(stage, opened, second)
    await stage.ended(await ends_of(stage, opened))
    assert await follow(stage, first.task_id) == {second.task_id}
    assert (await placed(stage))["seat"] == 1


async def ends_of(stage: Stage, opened: Opened) -> list[Ended]:
    """Ends of all runs of a session."""
    rows = await stage.database.fetch(
        "select task_id::text, token from lease where session_id = $1 order by 1", opened.session_id
    )
    return [Ended(row[0], row[1], opened.session_id, Outcome.COMPLETED, elapsed_us=1) for row in rows]


async def _something_is_ready(stage: Stage, rival: Stage, opened: Opened) -> None:
    await submit_keyed(stage, keyed("b"))


async def _has_a_limit(stage: Stage, rival: Stage, opened: Opened) -> None:
    await stage.lane(followed=True)
    await stage.lanes.declare_limits([DeclaredLimit("task", "work", 5)])


async def _is_not_ours(stage: Stage, rival: Stage, opened: Opened) -> None:
    await rival.sessions.take_over(rival.broker, opened.session_id, SECRET, INFO, 0)


@pytest.mark.parametrize("closes", [_something_is_ready, _has_a_limit, _is_not_ours])
async def test_what_may_not_be_handed_off_is_ready_with_its_seat(
    stage: Stage, rival: Stage, closes: Callable[[Stage, Stage, Opened], Awaitable[None]]
) -> None:
    """Rule 18, as for plain tasks."""
    opened = await stage.session()
    await closes(stage, rival, opened)
    before = await placed(stage)
    handed = await hand_off(stage, opened, keyed("a"), keyed("a"))
    assert handed is not None
    assert handed.unleased == [await stage.lane(followed=True)]
    rise = {name: count - before[name] for name, count in (await placed(stage)).items()}
    assert rise == {"task": 2, "lease": 0, "ready": 1, "blocked": 1, "seat": 1}


async def test_a_repeated_task_takes_neither_a_second_lease_nor_a_second_seat(stage: Stage) -> None:
    opened = await stage.session()
    for task in (keyed("a", 9), keyed("b", 1, refuses=True)):
        await hand_off(stage, opened, task)
        with pytest.raises(StatementRefused) as refused:
            await hand_off(stage, opened, keyed("c"), task)
        assert is_repetition(refused.value)
    assert await placed(stage) == {"task": 2, "lease": 2, "ready": 0, "blocked": 0, "seat": 2}


async def test_a_refused_task_is_not_stored_and_names_the_holder(stage: Stage) -> None:
    opened = await stage.session()
    holder = keyed()
    await hand_off(stage, opened, holder)
    handed = await hand_off(stage, opened, keyed("b"), keyed(refuses=True), keyed("b", refuses=True))
    assert handed is not None
    assert handed.admissions == [READY, REFUSED, REFUSED]
    assert handed.holders is not None
    assert handed.holders[:2] == [None, holder.task_id]
    assert await placed(stage) == {"task": 2, "lease": 2, "ready": 0, "blocked": 0, "seat": 2}


async def test_slots_are_not_kept_for_as_long_as_a_stripe_is_held(stage: Stage, connection: Any) -> None:
    """Rule 42: whoever waits for it here would keep slots from plain tasks."""
    opened = await stage.session()
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("select lock_stripes(array[$1::bigint])", hashed("a"))
        began = time.monotonic()
        assert await hand_off(stage, opened, keyed("b"), keyed("a")) is None
        assert time.monotonic() - began < 2
    assert await placed(stage) == dict.fromkeys(("task", "lease", "ready", "blocked", "seat"), 0)


async def test_stripes_that_are_held_one_after_the_other_are_waited_for_no_longer_than_one(
    stage: Stage, connection: Any
) -> None:
    """Each is let go 10 ms after the hand-off has begun to wait for it."""
    opened, keys = await stage.session(), "abcdefghijklmnopqrst"
    async with AsyncExitStack() as stack:
        holders = [await stack.enter_async_context(closing(stage.database.url)) for _ in keys]
        for each, key in zip(holders, keys, strict=True):
            await each.execute("begin")
            await each.execute(f"select from hyrex.stripe where id = {hashed(key) & 1023} for update")
        leaving = asyncio.create_task(leave_in_turn(connection, holders))
        try:
            assert await hand_off(stage, opened, *map(keyed, keys)) is None
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
    assert await placed(stage) == dict.fromkeys(("task", "lease", "ready", "blocked", "seat"), 0)


async def leave_in_turn(connection: Any, holders: list[Any]) -> None:
    """Each ends its transaction when somebody has waited for it for a moment."""
    for each in holders:
        await until_blocked(connection)
        await asyncio.sleep(0.01)
        await each.execute("commit")


@asynccontextmanager
async def closing(url: str) -> AsyncIterator[Any]:
    """A connection of its own."""
    connection = await connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_no_maximum_is_exceeded_while_hand_offs_and_ends_race(stage: Stage, rival: Stage) -> None:
    """Two brokers hand off, end and follow; a third connection counts all the time."""
    rng = random.Random(11)
    left = [keyed(rng.choice("abc"), 2) for _ in range(120)]

    async def works(one: Stage) -> None:
        opened, lane = await one.session(), await one.lane(followed=True)
        idle = 0
        while idle < 3:
            batch = [left.pop() for _ in range(min(len(left), rng.randint(1, 6)))]
            if batch and await hand_off(one, opened, *batch) is None:
                await submit_keyed(one, *batch)
            await within_maxima(one)
            await one.assign(opened, 4, lane)
            ends = await ends_of(one, opened)
            if ends:
                await one.ended(ends)
                await follow(one, *[each.task_id for each in ends])
            await within_maxima(one)
            idle = 0 if ends or batch else idle + 1

    await asyncio.gather(works(stage), works(rival))
    assert await placed(stage) == {"task": 120, "lease": 0, "ready": 0, "blocked": 0, "seat": 0}
    assert await stage.execute("select count(*) from task_run where outcome = 2") == 120
