"""Who comes in at a gateway that asks for tokens: callers whose token a cell knows, with its rights."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import task_service_pb2 as pb
from tests.integration.gateway.conftest import REST, VIDEO, Stubs, stubs_on
from tests.integration.gateway.sends import STORED, new_task
from tests.integration.service.seeding import make_id
from tests.integration.service.stubs import outcome_of
from tests.support.postgres import copied_database
from tests.support.processes import Processes, RunningBroker
from tests.support.tokens import bearer, made

ROOT = "the-root-token"


@pytest.fixture(scope="module")
def guarded(postgres_url: str, template_database: str) -> Iterator[tuple[RunningBroker, RunningBroker]]:
    """A broker that asks for tokens, and a gateway to it that does."""
    processes = Processes()
    with copied_database(postgres_url, template_database, "hyrex_gw_door") as url:
        try:
            broker = processes.broker(url, env={"HYREX_TOKEN": ROOT})
            yield broker, processes.gateway(f"*={broker.url}", "--require-token")
        finally:
            processes.end()


@pytest.fixture
async def stubs(guarded: tuple[RunningBroker, RunningBroker]) -> AsyncIterator[Stubs]:
    async with grpc.aio.insecure_channel(guarded[1].address) as channel:
        yield stubs_on(channel)


@pytest.fixture
async def behind(guarded: tuple[RunningBroker, RunningBroker]) -> AsyncIterator[Stubs]:
    """The broker itself."""
    async with grpc.aio.insecure_channel(guarded[0].address) as channel:
        yield stubs_on(channel)


def get(stubs: Stubs, **options: Any) -> Any:
    return stubs.tasks.GetTask(pb.GetTaskRequest(task_id=make_id()), **options)


async def test_calls_without_a_token_that_a_cell_knows_are_refused(stubs: Stubs) -> None:
    assert await outcome_of(get(stubs)) == "TOKEN_INVALID"
    assert await outcome_of(get(stubs, metadata=bearer("another"))) == "TOKEN_INVALID"
    assert await outcome_of(get(stubs, metadata=(("authorization", "Basic x"),))) == "TOKEN_INVALID"
    assert await outcome_of(get(stubs, metadata=bearer(ROOT))) == "TASK_NOT_FOUND"


async def test_a_caller_has_the_rights_of_its_own_token(stubs: Stubs, behind: Stubs) -> None:
    reads = await made(behind.admin, ROOT, "reads", "read")
    sends = await made(behind.admin, ROOT, "sends", "submit", f"{VIDEO}*")
    assert (await stubs.admin.GetCaller(admin.GetCallerRequest(), metadata=reads)).name == "reads"
    request = pb.SubmitTasksRequest(tasks=[new_task(VIDEO), new_task(REST)])
    assert await outcome_of(stubs.tasks.SubmitTasks(request, metadata=reads)) == "RIGHT_MISSING"
    results = (await stubs.tasks.SubmitTasks(request, metadata=sends)).results
    assert [each.error.reason for each in results] == ["", "RIGHT_MISSING"]
    assert results[0].outcome == STORED


async def test_a_token_that_is_revoked_does_not_come_in_any_more(stubs: Stubs, behind: Stubs) -> None:
    token = await made(behind.admin, ROOT, "leaves", "read")
    assert await outcome_of(get(stubs, metadata=token)) == "TASK_NOT_FOUND"
    await behind.admin.RevokeToken(admin.RevokeTokenRequest(name="leaves"), metadata=bearer(ROOT))
    async with asyncio.timeout(60):
        while await outcome_of(get(stubs, metadata=token)) != "TOKEN_INVALID":
            pass
