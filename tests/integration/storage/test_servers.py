"""Several servers in one URL: none that is silent, refuses or stands by keeps a broker from the others."""

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.cluster.notifications import Notifications
from hyrex_broker.engine.cluster.presence import Presence
from hyrex_broker.storage import dialling, pool, preflight
from hyrex_broker.storage.brokers import BrokerStore, Channel
from hyrex_broker.storage.connect import Connector, Timeouts
from hyrex_broker.storage.migrate import migrate
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.settings import HOT_SETTINGS, READ_SETTINGS
from tests.chaos.proxy import Proxy
from tests.support.loops import end
from tests.support.ports import free_port

TIMEOUTS: Final = Timeouts(connect_s=60, command_s=60)
LASTING: Final = Timeouts(connect_s=600, command_s=600)
HANG_S: Final = 60


@pytest.fixture
def silent() -> Iterator[str]:
    """A server whose machine takes connections and says nothing, as one without power or a stopped one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def before(url: str, *places: str, more: str = "") -> str:
    """The URL with other servers before its own."""
    parts = urlsplit(url)
    login, _, own = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}@{','.join((*places, own))}", query=more).geturl()


async def test_a_silent_server_hides_no_other_from_any_connection(storage_url: str, silent: str) -> None:
    """Heartbeats have 2 s for a connection, statements 5: less than a silent server may take."""
    database = Database(before(storage_url, silent, more="connect_timeout=30"), read_connections=1)
    async with asyncio.timeout(HANG_S):
        await preflight.check(database.url)
        await migrate(database.url)
        await database.open()
        try:
            await database.fetch("select 1", vital=True)
            listens = asyncio.Event()
            listening = asyncio.ensure_future(
                Channel(database.connector).listen(("a",), lambda *_: listens.set())
            )
            await listens.wait()
            await end(listening)
        finally:
            await database.close()


async def test_a_silent_address_hides_no_other_of_the_same_name(
    storage_url: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the name of a headless service, of which one machine is gone."""

    async def two(host: str) -> list[dialling.Address | None]:
        assert host == "db.internal"
        return [("127.0.0.2", 0), ("127.0.0.1", 0)]

    monkeypatch.setattr("hyrex_broker.storage.connect.addresses", two)
    port = urlsplit(storage_url).port
    with socket.create_server(("127.0.0.2", port or 5432)):
        url = storage_url.replace("127.0.0.1", "db.internal")
        async with asyncio.timeout(HANG_S):
            connection = await Connector(url).connect(READ_SETTINGS, TIMEOUTS)
            assert await connection.fetchval("select inet_server_port()") == port
            connection.terminate()


class Standby:
    """A check that refuses a server until it was asked so often, as a standby does until it is promoted."""

    def __init__(self, refusals: int) -> None:
        self.left = refusals

    async def __call__(self, _: object) -> None:
        if self.left:
            self.left -= 1
            raise StorageUnavailable("this server is a standby")


async def test_a_standby_that_is_promoted_is_found_while_another_server_is_silent(
    storage_url: str, silent: str
) -> None:
    """Not only when the silent one has had its time, which is longer here than the test waits."""
    connector = Connector(before(storage_url, silent, more="connect_timeout=600"))
    connector.checks.append(Standby(refusals=2))
    async with asyncio.timeout(HANG_S):
        (await connector.connect(READ_SETTINGS, LASTING)).terminate()


async def test_an_address_that_is_promoted_is_found_while_another_of_its_name_is_silent(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(_: str) -> list[dialling.Address | None]:
        return [("127.0.0.2", 0), ("127.0.0.1", 0)]

    monkeypatch.setattr("hyrex_broker.storage.connect.addresses", two)
    with socket.create_server(("127.0.0.2", urlsplit(storage_url).port or 5432)):
        connector = Connector(before(storage_url, more="connect_timeout=600"))
        connector.checks.append(Standby(refusals=2))
        async with asyncio.timeout(HANG_S):
            (await connector.connect(READ_SETTINGS, LASTING)).terminate()


@pytest.mark.parametrize("is_silent", [True, False])
async def test_while_a_heartbeat_has_no_answer_all_servers_are_asked(
    storage_url: str, connection: Any, monkeypatch: pytest.MonkeyPatch, is_silent: bool
) -> None:
    """Again and again, and its own timeout is not waited for: a standby may be promoted at any time once its
    primary is gone. An old primary that is still there answers every connection, and its commits wait for a
    standby."""
    monkeypatch.setattr(pool, "VITAL_TIMEOUT_S", LASTING.command_s)
    monkeypatch.setitem(HOT_SETTINGS, "statement_timeout", "10min")
    link = Proxy(("127.0.0.1", urlsplit(storage_url).port or 5432))
    database = Database(before(storage_url, link.address), hot_connections=1, read_connections=1)
    await database.open()
    store = BrokerStore(database)
    notifications = Notifications(Channel(database.connector))
    presence = Presence(store, await store.register("b", "b:1", "0"), notifications, lambda: False)
    asked = asyncio.Semaphore(0)

    async def note(_: object) -> None:
        asked.release()

    database.connector.checks.append(note)
    running = asyncio.ensure_future(asyncio.sleep(0))
    try:
        async with asyncio.timeout(HANG_S), connection.transaction():
            await connection.execute("select from broker for update")
            if is_silent:
                link.silence()
            running = asyncio.ensure_future(presence.run())
            for _ in range(2 if is_silent else 4):
                await asked.acquire()
            assert database.availability.away is None
    finally:
        link.heal()
        await end(running)
        await database.close()
        link.close()


async def test_after_an_outage_all_servers_are_asked_before_one_is_used(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one used last may be an old primary that can be reached again; another was promoted meanwhile."""
    place = urlsplit(storage_url).netloc.rpartition("@")[2]
    connector = Connector(before(storage_url, place))
    asked = 0

    async def note(_: object) -> None:
        nonlocal asked
        asked += 1

    connector.checks.append(note)
    monkeypatch.setattr("hyrex_broker.storage.connect.SILENCE_S", LASTING.connect_s)
    connector._pause.failed()
    async with asyncio.timeout(HANG_S):
        (await connector.connect(READ_SETTINGS, TIMEOUTS)).terminate()
    assert asked > len(connector.servers)


async def test_the_server_that_was_used_last_is_tried_first(storage_url: str) -> None:
    connector = Connector(before(storage_url, f"127.0.0.1:{free_port()}"))
    first, second = connector.servers
    (await connector.connect(READ_SETTINGS, TIMEOUTS)).terminate()
    assert connector.servers == (second, first)


async def test_each_server_has_the_time_that_the_url_gives(silent: str) -> None:
    connector = Connector(f"postgresql://u:p@{silent},{silent}/db?connect_timeout=1")
    began = time.monotonic()
    with pytest.raises(StorageUnavailable, match=r"did not answer in time.*did not answer in time"):
        await connector.connect(READ_SETTINGS, TIMEOUTS)
    assert time.monotonic() - began >= 1


async def test_keepalives_of_the_url_are_on_the_socket(storage_url: str) -> None:
    wanted = {
        "keepalives_idle": 31,
        "keepalives_interval": 7,
        "keepalives_count": 4,
        "tcp_user_timeout": 9000,
    }
    more = "&".join(f"{name}={value}" for name, value in wanted.items())
    connection = await Connector(before(storage_url, more=more)).connect(READ_SETTINGS, TIMEOUTS)
    made = connection._transport.get_extra_info("socket")
    assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    assert [made.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names] == [
        *wanted.values()
    ]
    connection.terminate()


async def test_a_broker_has_the_application_name_of_its_url(storage_url: str) -> None:
    connector = Connector(before(storage_url, more="application_name=shop"))
    connection = await connector.connect(READ_SETTINGS, TIMEOUTS)
    assert await connection.fetchval("show application_name") == "shop-reads"
    connection.terminate()


async def test_while_no_server_answers_few_attempts_are_made() -> None:
    """However many wait: one attempt at a time, and a pause before it that grows."""
    attempts = 0

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as away:
        port = away.sockets[0].getsockname()[1]
        connector = Connector(f"postgresql://u:p@127.0.0.1:{port}/db?sslmode=disable")
        began = time.monotonic()
        for attempt in range(1, 6):
            waiting = [connector.connect(READ_SETTINGS, TIMEOUTS) for _ in range(1 if attempt == 1 else 5)]
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(error, Exception) for error in ended)
            assert attempts == attempt
    assert time.monotonic() - began > (0.1 + 0.2 + 0.4 + 0.8) / 2


async def test_when_the_server_is_back_all_that_wait_go_on(storage_url: str) -> None:
    connector = Connector(storage_url)
    connector._pause.failed()
    async with asyncio.timeout(HANG_S):
        made = await asyncio.gather(*[connector.connect(READ_SETTINGS, TIMEOUTS) for _ in range(3)])
    assert not connector._pause.failures
    for connection in made:
        assert isinstance(connection, asyncpg.Connection)
        connection.terminate()


async def test_an_attempt_that_is_ended_is_no_cancellation_of_those_who_wait(silent: str) -> None:
    connector = Connector(f"postgresql://u:p@{silent}/db")
    connector._pause.failed()
    waiting = [asyncio.ensure_future(connector.connect(READ_SETTINGS, TIMEOUTS)) for _ in range(2)]
    while connector._attempt is None:
        await asyncio.sleep(0)
    waiting[1].cancel()  # this one is cancelled by its own caller
    connector.close()
    async with asyncio.timeout(HANG_S):
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in ended] == [StorageUnavailable, asyncio.CancelledError]


async def test_of_several_addresses_the_one_that_answers_tells_why(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As localhost, whose first address is ::1, where nobody listens."""

    async def two(host: str) -> list[dialling.Address | None]:
        return [("127.0.0.2", 0), ("127.0.0.1", 0)]

    monkeypatch.setattr("hyrex_broker.storage.connect.addresses", two)
    parts = urlsplit(storage_url)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2].replace("127.0.0.1", "u@db.internal"))
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await Connector(url.geturl()).connect(READ_SETTINGS, TIMEOUTS)
