"""A worker that sends heartbeats and reads nothing keeps nothing."""

import asyncio
from types import SimpleNamespace

import pytest

from hyrex_broker.domain.model import Outcome, Token
from hyrex_broker.engine.liveness import heartbeats
from hyrex_broker.engine.sessions.session import Reading
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import new_task


def test_only_silence_with_heartbeats_all_the_while_counts() -> None:
    reading = Reading()
    assert not reading.is_silent((1, 0), 100.0, 15)
    assert not reading.is_silent((1, 0), 105.0, 15)
    assert not reading.is_silent((1, 1), 110.0, 15), "a frame went out meanwhile"
    assert not reading.is_silent((1, 1), 117.0, 15)
    assert not reading.is_silent((2, 1), 124.0, 15), "a receipt came"
    for now in (130.0, 136.0):
        assert not reading.is_silent((2, 1), now, 15)
    assert reading.is_silent((2, 1), 139.5, 15)


def test_a_pause_of_the_broker_is_no_silence_of_the_worker() -> None:
    """Heartbeats that lay waiting say nothing of what was read meanwhile."""
    reading = Reading()
    assert not reading.is_silent((1, 0), 100.0, 15)
    for now in (160.0, 160.1, 160.2):
        assert not reading.is_silent((1, 0), now, 15)
    assert not reading.is_silent(None, 160.3, 15)


async def test_what_it_never_read_is_given_back_while_it_goes_on_beating(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, link = await bench.worker()
    await bench.submit([new_task(), new_task()])
    read, unread = await link.until_runs(2)
    beats = bench.engine.heartbeats
    now = 1000.0
    monkeypatch.setattr(heartbeats, "time", SimpleNamespace(monotonic=lambda: now))
    for _ in range(5):
        assert beats.beat(session, 1, [read.token], 0) == []
        assert beats.silent(session, [read.token]) == []
        now += 3.5
    ends = beats.silent(session, [read.token])
    assert [(end.task_id, end.outcome, end.session_id) for end in ends] == [
        (unread.task_id, Outcome.RELEASED, session.session_id)
    ]


async def test_one_that_says_what_it_read_is_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, link = await bench.worker()
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    now = 1000.0
    monkeypatch.setattr(heartbeats, "time", SimpleNamespace(monotonic=lambda: now))
    for held, through in (([run.token], 0), ([run.token], run.sequence)):
        for _ in range(10):
            assert bench.engine.heartbeats.beat(session, 1, held, through) == []
            assert bench.engine.heartbeats.silent(session, held) == []
            now += 3.5


async def test_an_acknowledgement_names_few_of_many_void_leases(bench: Bench) -> None:
    session, link = await bench.worker()
    bench.engine.heartbeats.beat(session, 1, [*map(Token, range(100_000))], 0)
    async with asyncio.timeout(60):
        while not link.acks:
            link.pushed.clear()
            await link.pushed.wait()
    ((_, revoked, _),) = link.acks
    assert [ref.token for ref in revoked] == list(range(heartbeats.MOST_VOID))
