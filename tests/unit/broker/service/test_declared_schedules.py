"""Schedules that a worker's code declares: checked in its Hello, and stored with its token's rights only."""

from collections.abc import Collection

import pytest

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1.schedule_pb2 import ScheduleDefinition
from hyrex.v1.task_pb2 import NewTask
from hyrex_broker.domain.errors import InvalidField, RightMissing
from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.domain.schedules import ScheduleSource
from hyrex_broker.service.work_rights import within_rights
from hyrex_broker.service.worker_convert import introduction


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


async def nowhere(names: Collection[str], patterns: Collection[str]) -> Collection[str]:
    return ()


def caller(*scopes: Scope) -> Caller:
    return Caller("worker-token", frozenset(scopes), ("mail",))


def test_a_hello_says_which_schedules_its_code_declares() -> None:
    (found,) = introduction(hello(nightly())).schedules
    assert (found.name, found.task, found.queue) == ("nightly", "report", "mail")
    assert found.source is ScheduleSource.CODE


def test_a_bad_schedule_of_a_hello_is_named() -> None:
    with pytest.raises(InvalidField, match=r"schedules\.cron = '0 0 30 2 \*'"):
        introduction(hello(nightly(cron="0 0 30 2 *")))
    with pytest.raises(InvalidField, match=r"schedules\.name = 'nightly': is there twice"):
        introduction(hello(nightly(), nightly()))


async def test_a_worker_declares_schedules_only_for_queues_that_it_may_submit_to() -> None:
    """Rule 39."""
    told = introduction(hello(nightly()))
    with pytest.raises(RightMissing, match="lacks the scope 'submit'"):
        await within_rights(told, caller(Scope.WORK), nowhere)
    assert (await within_rights(told, caller(Scope.WORK, Scope.SUBMIT), nowhere)).schedules == told.schedules
    other = introduction(hello(nightly("billing")))
    with pytest.raises(RightMissing, match="for queue 'billing'"):
        await within_rights(other, caller(Scope.WORK, Scope.SUBMIT), nowhere)
