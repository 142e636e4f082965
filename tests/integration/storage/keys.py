"""Tasks with concurrency keys on a stage."""

import itertools
import time
from typing import Any
from weakref import WeakKeyDictionary

from hyrex_broker.domain.blocks import stretched
from hyrex_broker.domain.ids import task_id
from hyrex_broker.domain.model import Outcome, TaskExtras, TaskId
from hyrex_broker.storage.follow import FollowStore
from hyrex_broker.storage.keyed import Admitted, KeyedStore, Placing
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.sessions import Opened
from hyrex_broker.storage.submit import HandedOff
from tests.integration.storage.stage import NewTask, Stage, make_id, new_task
from tests.support.assigned import AssignedRun

KEY = 7_000_001
_milliseconds = itertools.count(int(time.time() * 1000))
"""Of ids, so that tasks made later have higher ones."""


def keyed(key: str = "a", most: int = 1, *, refuses: bool = False, **extras: Any) -> NewTask:
    """A task with a concurrency key."""
    said = TaskExtras(max_per_key=most, refuses_to_wait=refuses, **extras)
    return new_task(make_id(next(_milliseconds)), concurrency_key=key, extras=said)


def hashed(key: str) -> int:
    """Any number that stands for the key."""
    return KEY + sum(key.encode())


_stores: WeakKeyDictionary[Database, KeyedStore] = WeakKeyDictionary()


def store_of(stage: Stage) -> KeyedStore:
    """The stage's one: it remembers marks, as that of a broker."""
    return _stores.setdefault(stage.database, KeyedStore(stage.database, 0))


async def submit_keyed(stage: Stage, *tasks: NewTask) -> dict[TaskId, Admitted]:
    """Store tasks with keys, and what became of them."""
    batch = await stage.batch(tasks)
    hashes = [hashed(key or "") for key in stretched(batch.concurrency_keys, len(batch))]
    found = await store_of(stage).submit(batch, hashes)
    return {task_id(digits): admitted for digits, admitted in found.items()}


async def hand_off(stage: Stage, opened: Opened, *tasks: NewTask) -> HandedOff | None:
    """Store tasks with keys, with a slot of this session for each; None: a stripe was held."""
    batch = await stage.batch(tasks)
    plan = stage.plan(opened, batch.lanes[0], len(tasks))
    hashes = [hashed(key or "") for key in stretched(batch.concurrency_keys, len(batch))]
    return await store_of(stage).submit_handing_off(batch, hashes, plan, range(len(tasks)))


async def admissions(stage: Stage, *tasks: NewTask) -> list[Placing]:
    """Store tasks; what became of each, in their order."""
    found = await submit_keyed(stage, *tasks)
    return [found[task.task_id].admission for task in tasks]


async def follow(stage: Stage, *task_ids: TaskId, keys: list[int] | None = None) -> set[TaskId]:
    """What becomes ready when these are followed."""
    return {moved.task_id for moved in await FollowStore(stage.database).follow(task_ids, keys or ())}


async def take(stage: Stage, count: int = 1) -> list[AssignedRun]:
    """Run up to so many keyed tasks."""
    return await stage.assign(await stage.session(), count, await stage.lane(followed=True))


async def end(stage: Stage, *runs: AssignedRun) -> None:
    """They complete; nobody has followed that yet."""
    for run in runs:
        await stage.end(run, Outcome.COMPLETED)


async def within_maxima(stage: Stage) -> None:
    """No key has more than two tasks that are ready or run."""
    most = await stage.execute(
        "select coalesce(max(n), 0) from (select count(*) as n from task t"
        " join (select task_id from ready union all select task_id from lease) l on l.task_id = t.id"
        " group by t.key_hash) k"
    )
    assert most <= 2
