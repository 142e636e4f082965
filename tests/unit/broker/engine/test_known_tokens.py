"""Decisions on tokens: from memory, after one shared look for unknown ones, and none while the database is
away."""

import asyncio
import time

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.domain.tokens import digest, make_token
from hyrex_broker.engine import known_tokens
from hyrex_broker.engine.known_tokens import KnownTokens, OpenStream, Undecided
from hyrex_broker.service.callers import ENDS_ITSELF_WITHIN_S
from hyrex_broker.storage.tokens import StoredToken
from tests.support.loops import end


class Table:
    """The tokens of a database that may be away."""

    def __init__(self) -> None:
        self.rows: dict[bytes, StoredToken] = {}
        self.away = False
        self.statements = 0

    def put(
        self, token: str, name: str = "n", *, revoked: bool = False, ends_at: float | None = None
    ) -> None:
        key = digest(token.encode())
        caller = Caller(name, frozenset({Scope.READ}), ("*",), key)
        self.rows[key] = StoredToken(key, caller, revoked, ends_at)

    async def all(self) -> list[StoredToken]:
        self.statements += 1
        await asyncio.sleep(0)
        if self.away:
            raise StorageUnavailable("away")
        return list(self.rows.values())

    async def changed(self, within_s: float) -> list[StoredToken]:
        return await self.all()


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def known(table: Table) -> KnownTokens:
    return KnownTokens(table, ["root-1", "root-2"])


async def decided(known: KnownTokens, token: str) -> Caller | None:
    """The decision, after a look if it takes one."""
    decision = known.decision(token)
    if not isinstance(decision, Undecided):
        return decision
    deciding = asyncio.create_task(known.decide(decision))
    await asyncio.sleep(0)
    await known.refresh()
    return await deciding


async def test_several_root_tokens_are_good_at_once_and_are_replaced(known: KnownTokens) -> None:
    for token in ("root-1", "root-2"):
        caller = known.decision(token)
        assert isinstance(caller, Caller)
        assert (caller.name, caller.unlimited, caller.scopes) == ("root", True, frozenset(Scope))
    known.set_roots(["root-3"])
    assert known.decision("root-1") is None
    assert isinstance(known.decision("root-3"), Caller)


@pytest.mark.parametrize(
    "token",
    ["", "root", "root-1 ", "root-1\udcff", make_token()[:-1], make_token() + "a"],
    ids=["empty", "another word", "a blank more", "a surrogate", "too short", "too long"],
)
def test_what_is_no_token_is_refused_without_a_look(known: KnownTokens, token: str) -> None:
    assert known.decision(token) is None


async def test_a_new_token_is_found_at_its_first_call(known: KnownTokens, table: Table) -> None:
    await known.refresh()
    token = make_token()
    table.put(token, "late")
    found = await decided(known, token)
    assert found is not None
    assert found.name == "late"
    assert known.decision(token) is found  # from memory


async def test_all_that_wait_share_one_statement_and_a_made_up_token_is_looked_for_once(
    known: KnownTokens, table: Table
) -> None:
    forged = [make_token() for _ in range(500)]
    decisions = [known.decision(token) for token in forged]
    waiting = [asyncio.create_task(known.decide(each)) for each in decisions if isinstance(each, Undecided)]
    await asyncio.sleep(0)
    assert known.sizes()["calls that wait for a decision"] == len(forged)
    await known.refresh()
    assert await asyncio.gather(*waiting) == [None] * len(forged)
    assert table.statements == 1
    assert [known.decision(token) for token in forged] == [None] * len(forged)


async def test_what_is_remembered_of_made_up_tokens_is_bounded(
    known: KnownTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "MOST_UNKNOWN", 3)
    for _ in range(10):
        assert await decided(known, make_token()) is None
    assert known.sizes()["unknown tokens"] == 3


async def test_those_that_wait_for_a_decision_are_bounded(
    known: KnownTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "MOST_WAITING", 1)
    waits = asyncio.create_task(known.decide(Undecided(b"1")))
    await asyncio.sleep(0)
    with pytest.raises(StorageUnavailable):
        await known.decide(Undecided(b"2"))
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert known.sizes()["calls that wait for a decision"] == 0


async def test_while_the_database_is_away_known_tokens_keep_their_decision_and_others_have_none(
    known: KnownTokens, table: Table
) -> None:
    good, revoked, unknown = make_token(), make_token(), make_token()
    table.put(good)
    table.put(revoked, revoked=True)
    await known.refresh()
    table.away = True
    await known.refresh()
    assert isinstance(known.decision(good), Caller)
    assert known.decision(revoked) is None
    with pytest.raises(StorageUnavailable, match="away"):
        await decided(known, unknown)
    assert isinstance(known.decision("root-1"), Caller)
    table.away = False
    table.put(unknown)
    assert isinstance(await decided(known, unknown), Caller)


async def test_streams_end_with_their_token_and_others_stay(known: KnownTokens, table: Table) -> None:
    revoked, expires, stays = make_token(), make_token(), make_token()
    table.put(revoked)
    table.put(expires, ends_at=time.monotonic() + 3600)
    table.put(stays)
    await known.refresh()
    ended: list[str] = []

    def open_for(token: str) -> OpenStream:
        caller = known.decision(token)
        assert isinstance(caller, Caller)
        stream = OpenStream(caller, lambda: ended.append(token))
        known.open(stream)
        return stream

    streams = {token: open_for(token) for token in (revoked, expires, stays, "root-1", "root-2")}
    await known.refresh()
    assert not ended
    table.put(revoked, revoked=True)
    table.put(expires, ends_at=time.monotonic() - 1)
    known.set_roots(["root-2"])
    await known.refresh()
    assert sorted(ended) == sorted([revoked, expires, "root-1"])
    for stream in streams.values():
        known.close(stream)
    assert known.sizes()["open streams"] == 0


async def test_what_changed_is_read_at_every_interval_without_being_hurried(
    known: KnownTokens, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "ROUND_S", 0.1)
    running = asyncio.create_task(known.run())
    try:
        async with asyncio.timeout(60):
            while table.statements < 10:
                await asyncio.sleep(0.05)
    finally:
        await end(running)


def test_streams_of_a_revoked_token_have_ended_after_five_seconds() -> None:
    """The interval in which a broker reads what another one has revoked, and the time a stream may take to
    end itself before it is cancelled. What they do: the tests above, test_doors and test_revoked."""
    assert known_tokens.ROUND_S + ENDS_ITSELF_WITHIN_S < 4.5


async def test_a_name_of_a_certificate_is_that_of_a_token_while_it_is_good(
    known: KnownTokens, table: Table
) -> None:
    token = make_token()
    table.put(token, "billing.internal")
    await known.refresh()
    found = known.named(["other", "billing.internal"])
    assert found is not None
    assert found is known.decision(token)
    table.put(token, "billing.internal", revoked=True)
    await known.refresh()
    assert known.named(["billing.internal"]) is None
