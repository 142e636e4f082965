"""Tokens are made, listed and revoked over a real channel, by those who may."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyrex.v1 import admin_service_pb2 as admin_wire
from hyrex.v1 import queue_service_pb2
from hyrex_broker.domain.tokens import is_whole, make_token
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import ROOT, Stubs, outcome_of, reason_of
from tests.support.tokens import bearer, made, wanted


async def test_a_token_is_shown_once_and_only_its_hash_is_stored(guarded: Stubs, seed: Seed) -> None:
    answer = await guarded.admin.CreateToken(wanted("ci", "submit read", "ci-*"), metadata=bearer(ROOT))
    assert is_whole(answer.secret)
    assert answer.enforced
    row = await seed.rows("select * from token")
    assert row[0]["hash"] == hashlib.sha256(answer.secret.encode()).digest()
    assert not [value for value in row[0].values() if answer.secret in str(value)]
    listed = await guarded.admin.ListTokens(admin_wire.ListTokensRequest(), metadata=bearer(ROOT))
    (token,) = listed.tokens
    assert (token.name, list(token.queue_patterns)) == ("ci", ["ci-*"])
    assert answer.secret.endswith(token.ending)
    assert answer.secret not in str(listed)


async def test_any_token_may_ask_what_it_may_do(guarded: Stubs) -> None:
    own = await made(guarded.admin, ROOT, "own", "submit work", "own*", "b")
    told = await guarded.admin.GetCaller(admin_wire.GetCallerRequest(), metadata=own)
    assert (told.name, list(told.queue_patterns), told.enforced) == ("own", ["own*", "b"], True)
    assert list(told.scopes) == [admin_wire.TOKEN_SCOPE_SUBMIT, admin_wire.TOKEN_SCOPE_WORK]
    everything = await guarded.admin.GetCaller(admin_wire.GetCallerRequest(), metadata=bearer(ROOT))
    assert (everything.name, len(everything.scopes)) == ("root", 6)
    assert await reason_of(guarded.admin.GetCaller(admin_wire.GetCallerRequest())) == "TOKEN_INVALID"


async def test_what_is_no_token_of_this_broker_is_refused(guarded: Stubs, seed: Seed) -> None:
    good = await made(guarded.admin, ROOT, "good", "read")
    expired = await made(guarded.admin, ROOT, "expired", "read")
    revoked = await made(guarded.admin, ROOT, "revoked", "read")
    await seed.execute("update token set expires_at = now() - interval '1 s' where name = 'expired'")
    await guarded.admin.RevokeToken(admin_wire.RevokeTokenRequest(name="revoked"), metadata=bearer(ROOT))
    request = queue_service_pb2.ListQueuesRequest()
    for metadata in ((), bearer("wrong"), bearer(make_token()), expired, revoked):
        assert await reason_of(guarded.queues.ListQueues(request, metadata=metadata)) == "TOKEN_INVALID"
    assert await outcome_of(guarded.queues.ListQueues(request, metadata=good)) == ""


async def test_nobody_gives_more_than_it_has_nor_sees_who_has_more(guarded: Stubs) -> None:
    own = await made(guarded.admin, ROOT, "own", "admin submit", "own-*")
    await made(guarded.admin, ROOT, "mighty", "work", "own-*")
    for scopes, queue in (
        ("work", "own-1"),
        ("submit", "*"),
        ("submit", "own*"),
        ("admin submit", "another"),
    ):
        assert await reason_of(guarded.admin.CreateToken(wanted("x", scopes, queue), metadata=own)) == (
            "RIGHT_MISSING"
        )
    await guarded.admin.CreateToken(wanted("child", "submit", "own-1", "own-b*"), metadata=own)
    for size in (1, 100):
        names: list[str] = []
        request = admin_wire.ListTokensRequest(page_size=size)
        while not names or request.page_token:
            page = await guarded.admin.ListTokens(request, metadata=own)
            names += [token.name for token in page.tokens]
            request.page_token = page.next_page_token
        assert names == ["child", "own"]
    revoke = admin_wire.RevokeTokenRequest
    assert await reason_of(guarded.admin.RevokeToken(revoke(name="mighty"), metadata=own)) == "PEER_NOT_FOUND"
    assert await outcome_of(guarded.admin.RevokeToken(revoke(name="child"), metadata=own)) == ""
    assert await reason_of(guarded.admin.RevokeToken(revoke(name="child"), metadata=own)) == "PEER_NOT_FOUND"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "two words"},
        {"name": "schlüssel"},
        {"name": "root"},
        {"name": "Anyone"},
        {"scopes": []},
        {"scopes": [0]},
        {"scopes": [99]},
        {"queue_patterns": []},
        {"queue_patterns": ["*a*b*c*d*"]},
        {"queue_patterns": [""]},
        {"expires_at": datetime.now(UTC) - timedelta(days=1)},
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(guarded: Stubs, changes: dict[str, Any]) -> None:
    fields = {"name": "n", "scopes": [1], "queue_patterns": ["*"]} | changes
    request = admin_wire.CreateTokenRequest(**fields)
    assert await reason_of(guarded.admin.CreateToken(request, metadata=bearer(ROOT))) == "INVALID_FIELD"


async def test_a_name_is_free_again_when_its_token_has_ended(guarded: Stubs, seed: Seed) -> None:
    create = guarded.admin.CreateToken
    first = (await create(wanted("ci", "read"), metadata=bearer(ROOT))).secret
    assert await reason_of(create(wanted("ci", "read"), metadata=bearer(ROOT))) == "TOKEN_EXISTS"
    await seed.execute("update token set expires_at = now() - interval '1 s'")
    second = (await create(wanted("ci", "read"), metadata=bearer(ROOT))).secret
    assert second != first
    request = queue_service_pb2.ListQueuesRequest()
    assert await outcome_of(guarded.queues.ListQueues(request, metadata=bearer(second))) == ""
    ended = admin_wire.ListTokensRequest(include_ended=True)
    listed = await guarded.admin.ListTokens(ended, metadata=bearer(ROOT))
    assert [token.HasField("revoked_at") for token in listed.tokens] == [True, False]
