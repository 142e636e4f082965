"""Concurrency keys: a seat is taken before a task is ready and kept to its end, and what waits goes on from
ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.follow import FIRST, FollowStore
from hyrex_broker.storage.keyed import Placing
from tests.integration.storage.keys import (
    admissions,
    end,
    follow,
    hashed,
    keyed,
    submit_keyed,
    take,
    within_maxima,
)
from tests.integration.storage.stage import Stage
from tests.integration.storage.waits import until_blocked

READY, BLOCKED = Placing.READY, Placing.BLOCKED


async def test_tasks_of_a_key_wait_for_its_maximum_and_others_do_not(stage: Stage) -> None:
    """Rule 30, of keys that differ in nothing but themselves."""
    tasks = [keyed("a", 2), keyed("a", 2), keyed("a", 2), keyed("b", 2)]
    assert await admissions(stage, *tasks) == [READY, READY, BLOCKED, READY]
    assert await stage.state(tasks[2].task_id) is TaskState.BLOCKED
    assert len(await take(stage, 9)) == 3


async def test_an_end_lets_the_one_go_on_that_waited_longest(stage: Stage) -> None:
    first, second, third = keyed(), keyed(), keyed()
    await submit_keyed(stage, first)
    await submit_keyed(stage, second)
    await submit_keyed(stage, third)
    (run,) = await take(stage, 9)
    await end(stage, run)
    assert await take(stage, 9) == []
    assert await follow(stage, first.task_id) == {second.task_id}
    assert await follow(stage, first.task_id) == set()
    (run,) = await take(stage, 9)
    assert run.task_id == second.task_id
    assert await stage.state(third.task_id) is TaskState.BLOCKED


async def test_a_refusing_task_is_not_stored_and_names_who_holds_its_key(stage: Stage) -> None:
    holder, refused = keyed(refuses=True), keyed(refuses=True)
    assert await admissions(stage, holder) == [READY]
    (said,) = (await submit_keyed(stage, refused)).values()
    assert (said.admission, said.holder) == (Placing.REFUSED, holder.task_id)
    assert await stage.state(refused.task_id) is None
    assert await stage.execute("select count(*) from task") == 1


async def test_a_refused_task_does_not_keep_its_idempotency_key(stage: Stage) -> None:
    await submit_keyed(stage, keyed())
    refused = keyed(refuses=True)
    refused.key = "once"
    assert await admissions(stage, refused) == [Placing.REFUSED]
    assert await stage.execute("select count(*) from idempotency") == 0


async def test_a_task_that_is_stored_already_takes_no_second_seat(stage: Stage) -> None:
    task = keyed()
    assert await admissions(stage, task) == [READY]
    assert await submit_keyed(stage, task) == {}
    assert await stage.execute("select count(*) from seat") == 1


async def test_nobody_goes_before_those_who_wait_whatever_its_own_maximum(stage: Stage) -> None:
    await submit_keyed(stage, keyed("a", 1))
    await submit_keyed(stage, keyed("a", 1))
    assert await admissions(stage, keyed("a", 5)) == [BLOCKED]


async def test_those_behind_a_smaller_maximum_go_on_with_it(stage: Stage) -> None:
    """The room is counted for each one: a first that takes the last seat of its maximum is not the last to
    go."""
    held = keyed("a", 1)
    waiting = [keyed("a", 1), keyed("a", 3), keyed("a", 3), keyed("a", 3)]
    for task in (held, *waiting):
        await submit_keyed(stage, task)
    await end(stage, *await take(stage))
    assert await follow(stage, held.task_id) == {task.task_id for task in waiting[:3]}


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([(1, False), (5, False)], "BLOCKED BLOCKED"),
        ([(1, True), (5, False), (5, False)], "REFUSED READY READY"),
        ([(2, True), (2, True), (3, True), (3, False)], "READY REFUSED READY BLOCKED"),
        ([(1, False), (5, True)], "BLOCKED REFUSED"),
        ([(2, False), (2, True), (2, True), (3, False)], "READY REFUSED REFUSED READY"),
    ],
)
async def test_a_batch_is_admitted_as_if_each_had_come_alone(
    stage: Stage, batch: list[tuple[int, bool]], expected: str
) -> None:
    """One has a seat before; each of the batch has a maximum, and waits or refuses to."""
    await submit_keyed(stage, keyed("a", 9))
    tasks = [keyed("a", most, refuses=refuses) for most, refuses in batch]
    assert " ".join(each.name for each in await admissions(stage, *tasks)) == expected
    assert await follow(stage, keys=[hashed("a")]) == set()


async def test_a_seat_is_kept_through_a_backoff(stage: Stage) -> None:
    """Rule 29."""
    holder = keyed()
    holder.terms = type(holder.terms)(**{**_fields(holder.terms), "max_retries": 1, "retry_delay_ms": 60_000})
    waiting = keyed()
    await submit_keyed(stage, holder)
    await submit_keyed(stage, waiting)
    (run,) = await take(stage)
    await stage.end(run, Outcome.FAILED)
    assert await stage.state(holder.task_id) is TaskState.RETRYING
    assert await follow(stage, holder.task_id) == set()
    await stage.due_now()
    assert await stage.state(holder.task_id) is TaskState.QUEUED
    assert await stage.state(waiting.task_id) is TaskState.BLOCKED


def _fields(terms: Any) -> dict[str, Any]:
    return {name: getattr(terms, name) for name in terms.__dataclass_fields__}


async def test_a_scheduled_task_takes_its_seat_when_it_is_due(stage: Stage) -> None:
    later = keyed(delay_ms=60_000)
    assert await admissions(stage, later) == [Placing.LATER]
    holder = keyed()
    assert await admissions(stage, holder) == [READY]
    await stage.due_now()
    assert await stage.state(later.task_id) is TaskState.BLOCKED
    assert await follow(stage, later.task_id) == set()
    await end(stage, *await take(stage))
    assert await follow(stage, holder.task_id) == {later.task_id}


async def test_a_reopened_task_waits_for_a_seat_as_any_other(stage: Stage) -> None:
    """Its seat of before counts for nothing, though nobody has removed it yet."""
    first, second = keyed(), keyed()
    await submit_keyed(stage, first)
    await submit_keyed(stage, second)
    await end(stage, *await take(stage))
    (reopened,) = await stage.cancels.retry([first.task_id])
    assert reopened.is_blocked
    assert await follow(stage, first.task_id) == {second.task_id}
    assert await stage.state(first.task_id) is TaskState.BLOCKED
    await end(stage, *await take(stage, 9))
    assert await follow(stage, second.task_id) == {first.task_id}


async def test_a_dead_tasks_seat_counts_for_nothing(stage: Stage) -> None:
    await submit_keyed(stage, keyed())
    await end(stage, *await take(stage))
    assert await admissions(stage, keyed()) == [READY]


async def test_cancelling_the_first_that_waits_lets_the_next_go(stage: Stage) -> None:
    tasks = [keyed("a", 2), keyed("a", 1), keyed("a", 2)]
    for task in tasks:
        await submit_keyed(stage, task)
    assert await stage.cancels.cancel([tasks[1].task_id], "enough") == []
    (found,) = await stage.cancels.cancel_blocked([tasks[1].task_id], "enough")
    assert found.key == hashed("a")
    assert await stage.state(tasks[1].task_id) is TaskState.CANCELLED
    assert await follow(stage, keys=[hashed("a")]) == {tasks[2].task_id}


async def test_what_became_ready_while_it_was_cancelled_is_cancelled_all_the_same(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """Rule 26. A bulk cancel that waits for `follow` finds the task where that has put it."""
    first, second = keyed(), keyed()
    await submit_keyed(stage, first)
    await submit_keyed(stage, second)
    await end(stage, *await take(stage))
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("select follow(array[$1::uuid], '{}')", first.task_id)
        cancelling = asyncio.create_task(rival.cancels.cancel_wherever([second.task_id], "enough"))
        await until_blocked(connection)
    assert [found.task_id for found in await cancelling] == [second.task_id]
    assert await stage.state(second.task_id) is TaskState.CANCELLED


async def _everything(stage: Stage) -> set[TaskId]:
    """One round of the sweep."""
    store = FollowStore(stage.database)
    moved: set[TaskId] = set()
    for page in (await store.dead_seats(FIRST, 1000), await store.stuck(FIRST, 1000)):
        moved |= {each.task_id for each in await store.follow(page.task_ids)}
    return moved


async def test_the_sweep_finds_what_nobody_has_followed(stage: Stage) -> None:
    first, second = keyed(), keyed()
    await submit_keyed(stage, first)
    await submit_keyed(stage, second)
    await end(stage, *await take(stage))
    assert await _everything(stage) == {second.task_id}
    assert await _everything(stage) == set()


async def test_the_sweep_finds_what_is_due_and_was_not_looked_at(stage: Stage) -> None:
    later = keyed(delay_ms=60_000)
    await submit_keyed(stage, later)
    await stage.due_now()
    assert await _everything(stage) == {later.task_id}


Moves = Callable[[Stage], Awaitable[object]]


async def test_no_maximum_is_exceeded_while_submits_and_ends_race(stage: Stage, rival: Stage) -> None:
    """Two brokers; every tenth end is followed by nobody but the sweep. Counted by a third connection's
    eyes: of no key more tasks are ready or run than may, at any time."""
    rng = random.Random(7)
    left = [keyed(rng.choice("ab"), 2) for _ in range(120)]
    followed: set[str] = set()

    async def submits(one: Stage) -> None:
        while left:
            batch = [left.pop() for _ in range(min(len(left), rng.randint(1, 6)))]
            await submit_keyed(one, *batch)
            await within_maxima(one)

    async def works(one: Stage) -> None:
        for _ in range(40):
            runs = await take(one, 4)
            await end(one, *runs)
            told = [run.task_id for run in runs if rng.random() > 0.1]
            followed.update(told)
            if told:
                await follow(one, *told)
            await within_maxima(one)

    await asyncio.gather(submits(stage), submits(rival), works(stage), works(rival))
    for _ in range(120):  # bounded; each round that has not finished moves something on
        await _everything(stage)
        if not (runs := await take(stage, 9)):
            break
        await end(stage, *runs)
    assert await stage.execute("select count(*) from task_run where outcome = 2") == 120
    assert await stage.execute("select count(*) from blocked") == 0


async def test_an_end_beside_an_admission_wakes_what_waits(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """Rule 24. The end's follow waits for the stripe that the submit has locked, and looks again after that:
    without the lock it would find nobody waiting, and the task that the submit is about to block would be
    stuck."""
    first, second = keyed(), keyed()
    await submit_keyed(stage, first)
    (run,) = await take(stage)
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("select lock_stripes(array[$1::bigint])", hashed("a"))
        await connection.execute(
            "insert into task (id, lane, rank, max_retries, digest, payload, key_hash, max_per_key,"
            " concurrency_key) select $1, lane, rank, 0, 0, payload, key_hash, 1, 'a' from task limit 1",
            second.task_id,
        )
        await connection.execute(
            "insert into blocked (task_id, lane, rank, key, most, turn, run_number, attempt_number,"
            " redeliveries, releases, alone)"
            " select $1, lane, rank, key_hash, 1, nextval('look'), 0, 0, 0, 0, false from task where id = $1",
            second.task_id,
        )
        await end(stage, run)
        following = asyncio.create_task(follow(rival, first.task_id))
        await until_blocked(connection)
    assert await following == {second.task_id}


@pytest.mark.parametrize("name", ["dead_seats", "stuck"])
async def test_the_sweep_goes_on_where_a_page_ended(stage: Stage, name: str) -> None:
    await submit_keyed(stage, *[keyed() for _ in range(5)], *[keyed("b") for _ in range(5)])
    store, above, pages = FollowStore(stage.database), FIRST, 0
    while True:
        page = await getattr(store, name)(above, 3)
        if page.last is None:
            break
        assert page.last > above
        above, pages = page.last, pages + 1
    assert pages == (1 if name == "dead_seats" else 3)
