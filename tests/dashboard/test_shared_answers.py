"""What pages share of the broker's answers: for how long, and how many."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hyrex.dashboard import cluster
from hyrex.dashboard.brokers import Brokers
from hyrex.dashboard.cluster import WHO, ClusterView
from hyrex.dashboard.trends import Trends
from hyrex.v1 import admin_service_pb2 as admin
from tests.dashboard.shop import Shop, unique


class Counted(Brokers):
    """Real calls, counted."""

    made = 0

    async def call(self, service: str, method: str, request: Any, token: str | None) -> Any:
        """As it is."""
        self.made += 1
        return await super().call(service, method, request, token)


@pytest.fixture
async def brokers(shop: Shop) -> AsyncIterator[Counted]:
    """Of the shop."""
    found = Counted(shop.url)
    yield found
    await found.close()


async def test_who_wants_a_fresh_answer_is_not_given_one_that_is_kept_for_longer(
    brokers: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "SOON_KEPT_S", 600.0)
    view = ClusterView(brokers)
    async with asyncio.timeout(60):
        while (old := await view.caller(None)) is None:
            pass
    fresh = await view.kept(None, "admin", "GetCaller", WHO)
    assert fresh is not old
    assert await view.caller(None) is old
    await view.close()


async def test_an_answer_is_not_given_when_its_time_is_over(
    brokers: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "SOON_KEPT_S", 0.0)
    view = ClusterView(brokers)
    assert [await view.caller(None) for _ in range(5)] == [None] * 5
    assert brokers.made > 0
    await view.close()


async def test_the_newest_answers_are_kept_when_there_are_too_many(
    brokers: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_KEPT", 2)
    monkeypatch.setattr(cluster, "ANSWERS_KEPT_S", 600.0)
    view = ClusterView(brokers)
    requests = [admin.ListWorkersRequest(page_size=size) for size in (1, 2, 3)]
    first, _, last = [await view.kept(None, "admin", "ListWorkers", each) for each in requests]
    assert await view.kept(None, "admin", "ListWorkers", requests[2]) is last
    assert await view.kept(None, "admin", "ListWorkers", requests[0]) is not first
    await view.close()


async def test_a_queue_whose_trend_cannot_be_had_is_not_asked_for_at_each_look(brokers: Counted) -> None:
    trends = Trends(brokers)
    name = unique("never-there") + "\0"
    for _ in range(20):
        assert await trends.of(None, [name]) == {}
    assert brokers.made == 1
    await trends.close()
