"""Page tokens tell nothing, cannot be made up, and go on at every broker of the database."""

import base64

import pytest

from hyrex.v1 import task_service_pb2
from hyrex_broker.domain.errors import PageTokenInvalid
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.secrets import SecretStore
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import ROOT, Stubs, ids_of, reason_of
from tests.support.tokens import made

CURSOR = "018f4e7a-0000-7000-8000-000000000001"


def decoded(token: str) -> bytes:
    return base64.urlsafe_b64decode(token)


async def test_a_list_goes_on_behind_a_task_of_another_and_does_not_name_it(
    guarded: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page ends for its time at the other's task: that is its cursor."""
    mine = await seed.ready(await seed.task(queue="mine"))
    others = [await seed.ready(await seed.task(queue="others")) for _ in range(3)]
    monkeypatch.setattr("hyrex_broker.storage.listing._TIME_BUDGET_S", -1.0)
    monkeypatch.setattr("hyrex_broker.storage.listing._FIRST_LOOK", 2)
    narrow = await made(guarded.admin, ROOT, "narrow", "read", "mine")
    request = task_service_pb2.ListTasksRequest(page_size=1)
    found, tokens = [], []
    while True:
        page = await guarded.tasks.ListTasks(request, metadata=narrow)
        found += ids_of(page.tasks)
        if not page.next_page_token:
            break
        tokens.append(page.next_page_token)
        request.page_token = page.next_page_token
    assert found == [mine]
    assert tokens
    for task_id in others:
        assert not any(task_id.encode() in decoded(token) for token in tokens)


async def test_every_broker_of_a_database_reads_a_token_and_nobody_else_makes_one(database: Database) -> None:
    one, other = PageTokens(SecretStore(database)), PageTokens(SecretStore(database))
    token = await one.token(CURSOR, ["tasks"])
    assert await other.cursor(token, ["tasks"]) == CURSOR
    with pytest.raises(PageTokenInvalid, match="other filters"):
        await other.cursor(token, ["workers"])
    for place in range(len(decoded(token))):
        changed = bytearray(decoded(token))
        changed[place] ^= 1
        with pytest.raises(PageTokenInvalid, match="not made by a broker"):
            await other.cursor(base64.urlsafe_b64encode(changed).decode(), ["tasks"])


async def test_two_databases_have_two_secrets(database: Database) -> None:
    class Elsewhere:
        async def of_pages(self) -> bytes:
            return bytes(32)

    token = await PageTokens(Elsewhere()).token(CURSOR, ["tasks"])
    with pytest.raises(PageTokenInvalid, match="not made by a broker"):
        await PageTokens(SecretStore(database)).cursor(token, ["tasks"])


@pytest.mark.parametrize(
    "token", ["made up", "x" * 2000, "AAAA", "\u00e9", base64.b64encode(bytes(60)).decode()]
)
async def test_what_no_broker_has_made_is_refused(stubs: Stubs, token: str) -> None:
    request = task_service_pb2.ListTasksRequest(page_token=token)
    assert await reason_of(stubs.tasks.ListTasks(request)) == "PAGE_TOKEN_INVALID"
