"""Limits of code while versions follow each other: the newest living word counts."""

from dataclasses import replace

import pytest

from hyrex_broker.domain.errors import SessionSecretInvalid
from hyrex_broker.domain.model import Outcome
from hyrex_broker.domain.rates import DeclaredLimit, Rate
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.sessions.session import ServedSession
from tests.integration.engine.bench import Bench, Link, introduced

NAME = ("task", "work")


async def _worker(bench: Bench, maximum: int, name: tuple[str, str] = NAME) -> ServedSession:
    session, _ = await bench.worker(limits=[(*name, maximum)])
    return session


async def _leave(bench: Bench, session: ServedSession) -> None:
    await bench.engine.sessions.end(session.session_id, session.secret, Outcome.RELEASED, "left")


async def _settled(bench: Bench, name: tuple[str, str] = NAME) -> int | None:
    await bench.engine.directory.settle_limits()
    return await _stored(bench, name)


async def _stored(bench: Bench, name: tuple[str, str] = NAME) -> int | None:
    row = await bench.database.fetchrow(
        "select maximum from concurrency_limit where (scope, name) = ($1, $2)", *name
    )
    return row[0] if row else None


async def test_a_resumed_session_declares_nothing_anew(bench: Bench) -> None:
    old = await _worker(bench, 2)
    await _worker(bench, 4)
    hello = introduced(10, ["work"], [(*NAME, 2)])
    await bench.engine.sessions.resume(old.session_id, old.secret, hello, Link())
    assert await _stored(bench) == 4, "the old limit held until somebody looked"
    assert await _settled(bench) == 4


async def test_a_worker_whose_session_has_ended_is_no_newer_than_it_was(bench: Bench) -> None:
    old = await _worker(bench, 2)
    await bench.engine.sessions.end(old.session_id, old.secret, Outcome.LOST, "ended")
    await _worker(bench, 4)
    origin = await bench.engine.sessions.origin(old.session_id, old.secret)
    hello = introduced(10, ["work"], [(*NAME, 2)])
    await bench.engine.sessions.open(hello, Link(), origin)
    assert await _stored(bench) == 4, "the old limit held until somebody looked"
    assert await _settled(bench) == 4


async def test_a_worker_of_the_old_version_takes_its_limit_along_when_it_leaves(
    bench: Bench,
) -> None:
    await _worker(bench, 4)
    old = await _worker(bench, 2)
    assert await _settled(bench) == 2
    await _leave(bench, old)
    assert await _settled(bench) == 4


async def test_the_newest_living_word_holds_for_a_rate_as_for_a_maximum(bench: Bench) -> None:
    async def rate() -> tuple[int | None, int | None]:
        await bench.engine.directory.settle_limits()
        row = await bench.database.fetchrow("select maximum, rate_count from concurrency_limit")
        return (row["maximum"], row["rate_count"]) if row else (None, None)

    slow, quick = Rate(1, 60_000, 1), Rate(5, 60_000, 1)
    old, _ = await bench.worker(limits=[DeclaredLimit(*NAME, 0, slow)])
    assert await rate() == (None, 1)
    new, _ = await bench.worker(limits=[DeclaredLimit(*NAME, 3, quick)])
    assert await rate() == (3, 5)
    newest, _ = await bench.worker(limits=[DeclaredLimit(*NAME, 3)])
    assert await rate() == (3, None)
    await _leave(bench, newest)
    assert await rate() == (3, 5)
    await _leave(bench, new)
    assert await rate() == (None, 1)
    await _worker(bench, 0)
    await _leave(bench, old)
    assert await rate() == (None, None)


@pytest.mark.parametrize("name", [NAME, ("queue", "default")])
async def test_a_limit_that_one_worker_does_not_name_stays_while_another_does(
    bench: Bench, name: tuple[str, str]
) -> None:
    old = await _worker(bench, 2, name)
    new = await _worker(bench, 0, name)
    assert await _settled(bench, name) == 2
    await _leave(bench, old)
    assert await _settled(bench, name) is None
    await _leave(bench, new)


async def test_a_limit_stays_while_nobody_lives(bench: Bench) -> None:
    await _leave(bench, await _worker(bench, 2))
    assert await _settled(bench) == 2


@pytest.mark.parametrize("is_known", [True, False])
async def test_an_operators_limit_is_not_for_code_to_change(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """Known here already, or set through another broker a moment ago."""

    async def hear_nothing(self: Directory) -> None:
        """What others have written is not read yet."""

    if not is_known:
        monkeypatch.setattr(Directory, "refresh", hear_nothing)
        bench.engine.directory._limits.clear()  # what is being read now comes before the limit
    await bench.database.execute(
        "insert into concurrency_limit values (0, 'task', 'work', 7, 'operator') on conflict do nothing"
    )
    if is_known:
        await bench.engine.directory.refresh()
    await _worker(bench, 2)
    assert await _stored(bench) == 7
    assert await _settled(bench) == 7


async def test_a_hello_that_is_refused_for_its_secret_has_changed_nothing(bench: Bench) -> None:
    session = await _worker(bench, 2)
    hello = replace(
        introduced(10, ["work", "more"], [(*NAME, 9), ("queue", "made-up", 1)]), queues=["made-up"]
    )
    with pytest.raises(SessionSecretInvalid):
        await bench.engine.sessions.resume(session.session_id, b"guess", hello, Link())
    assert await _settled(bench) == 2
    found = await bench.database.fetchrow(
        "select (select count(*) from queue where name = 'made-up')"
        " + (select count(*) from lane where name = 'more')"
        " + (select count(*) from task_definition where name = 'more')"
    )
    assert found is not None
    assert found[0] == 0
