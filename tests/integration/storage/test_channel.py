"""Words between brokers: a line that has fallen silent is noticed, and its probes cost no word."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage import brokers
from hyrex_broker.storage.brokers import Channel
from tests.chaos.proxy import Proxy
from tests.support.loops import end

NAME = "hyrex_test"


@pytest.fixture
def cable(storage_url: str) -> Iterator[Proxy]:
    place = urlsplit(storage_url)
    assert place.hostname is not None
    proxy = Proxy((place.hostname, place.port or 5432))
    yield proxy
    proxy.close()


async def test_a_listening_connection_that_falls_silent_is_given_up(
    storage_url: str, cable: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No word comes over it, and no reset either: only a question shows that nobody is there."""
    monkeypatch.setattr(brokers, "_PROBE_EVERY_S", 0.05)
    monkeypatch.setattr(brokers, "_ANSWER_WITHIN_S", 0.5)
    place = urlsplit(storage_url)
    login = place.netloc.rpartition("@")[0]
    channel = Channel(place._replace(netloc=f"{login}@{cable.address}").geturl())
    listens = asyncio.Event()
    listening = asyncio.ensure_future(channel.listen((NAME,), lambda *_: listens.set()))
    await asyncio.wait_for(listens.wait(), 60)
    await asyncio.to_thread(cable.silence)
    with pytest.raises(StorageUnavailable):
        await asyncio.wait_for(listening, 60)
    await channel.tell(NAME, "nobody speaks on it any more")


async def test_probes_cost_no_word(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "_PROBE_EVERY_S", 0.0)
    channel = Channel(storage_url)
    heard: list[str] = []
    listens, all_heard = asyncio.Event(), asyncio.Event()

    def hear(name: str, text: str) -> None:
        listens.set()
        heard.append(text)
        if text == "99":
            all_heard.set()

    listening = asyncio.ensure_future(channel.listen((NAME,), hear))
    await asyncio.wait_for(listens.wait(), 60)
    for number in range(100):
        await channel.tell(NAME, str(number))
    await asyncio.wait_for(all_heard.wait(), 60)
    assert heard == ["", *map(str, range(100))]
    assert not listening.done()
    await end(listening)
