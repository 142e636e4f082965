"""Schedules that a worker's code declares: checked in its Hello, and stored with its token's rights only."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

import pytest

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1.schedule_pb2 import ScheduleDefinition
from hyrex.v1.task_pb2 import NewTask
from hyrex_broker.config import MIB
from hyrex_broker.domain.errors import InvalidField, PayloadOverLimit, RightMissing
from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.domain.schedules import ScheduleSource
from hyrex_broker.engine.sessions.session import Introduction
from hyrex_broker.service.work_rights import within_rights
from hyrex_broker.service.worker_convert import introduction, schedules


def hello(*schedules: ScheduleDefinition) -> wire.Hello:
    return wire.Hello(
        worker_name="worker",
        protocol_version=1,
        queue_patterns=["mail"],
        capacity=[wire.PoolCapacity(maximum=1)],
        schedules=schedules,
    )


def nightly(queue: str = "mail", cron: str = "@daily") -> ScheduleDefinition:
    return ScheduleDefinition(name="nightly", cron=cron, task=NewTask(name="report", queue=queue))


async def introduced(*wanted: ScheduleDefinition) -> Introduction:
    told = hello(*wanted)
    return replace(introduction(told), schedules=await schedules(told, MIB))


async def nowhere(names: Collection[str], patterns: Collection[str]) -> Collection[str]:
    return ()


def caller(*scopes: Scope) -> Caller:
    return Caller("worker-token", frozenset(scopes), ("mail",))


async def test_a_hello_says_which_schedules_its_code_declares() -> None:
    (found,) = await schedules(hello(nightly()), MIB)
    assert (found.name, found.task, found.queue) == ("nightly", "report", "mail")
    assert found.source is ScheduleSource.CODE


async def test_a_bad_schedule_of_a_hello_is_named() -> None:
    with pytest.raises(InvalidField, match=r"schedules\.cron = '0 0 30 2 \*'"):
        await schedules(hello(nightly(cron="0 0 30 2 *")), MIB)
    with pytest.raises(InvalidField, match=r"schedules\.name = 'nightly': is there twice"):
        await schedules(hello(nightly(), nightly()), MIB)


async def test_the_payload_limit_holds_for_schedules_of_a_hello() -> None:
    wanted = nightly()
    wanted.task.payload = b"x" * 11
    assert await schedules(hello(wanted), 11)
    with pytest.raises(PayloadOverLimit, match=r"schedules\.task\.payload has 11 bytes, the limit is 10"):
        await schedules(hello(wanted), 10)


async def test_a_hello_with_many_schedules_lets_others_go_on() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.ensure_future(others())
    wanted = [ScheduleDefinition(name=str(n), cron="@daily", task=nightly().task) for n in range(100)]
    assert len(await schedules(hello(*wanted), MIB)) == 100
    running.cancel()
    assert turns >= 100


async def test_a_worker_declares_schedules_only_for_queues_that_it_may_submit_to() -> None:
    """Rule 39."""
    told = await introduced(nightly())
    with pytest.raises(RightMissing, match="lacks the scope 'submit'"):
        await within_rights(told, caller(Scope.WORK), nowhere)
    assert (await within_rights(told, caller(Scope.WORK, Scope.SUBMIT), nowhere)).schedules == told.schedules
    other = await introduced(nightly("billing"))
    with pytest.raises(RightMissing, match="for queue 'billing'"):
        await within_rights(other, caller(Scope.WORK, Scope.SUBMIT), nowhere)
