"""A failover to a standby that lacks the newest commits: what they held is gone, and all else goes on."""

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from urllib.request import urlopen

import grpc
import pytest

from hyrex.client.process import close_client
from hyrex.v1 import task_service_pb2
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.timeline import NewestTimeline
from tests.faults import app
from tests.faults.field import LONG_LEASE_S, PATIENCE_S, Field
from tests.support.eventually import eventually
from tests.support.pairs import Pair, postgres_pair, value
from tests.support.postgres import run_apart
from tests.support.processes import Processes, StartBroker
from tests.support.roles import execute_now

pytestmark = pytest.mark.slow


@pytest.fixture
def pair() -> Iterator[Pair]:
    with postgres_pair() as pair:
        yield pair


@pytest.fixture
def field(processes: Processes, pair: Pair, tmp_path: Path) -> Iterator[Field]:
    yield Field(processes, pair.url, tmp_path)
    close_client()
    processes.end()


def test_after_a_failover_that_lost_commits_everything_goes_on_and_the_old_primary_is_left(
    field: Field, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = field.broker("--metrics", "127.0.0.1:0", lease_s=LONG_LEASE_S)
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    field.worker(broker.url, args=("-p", "2"))
    gate = field.directory / "gate"
    reported = app.until.send(str(gate))
    field.received(reported)
    pair.until_caught_up()
    pair.cut()
    # These commits are lost: a new queue, the end of a run, the row of a second broker.
    assert app.once.with_config(queue="new").send(1).wait(PATIENCE_S)
    second = field.broker(lease_s=LONG_LEASE_S)
    gate.touch()
    assert reported.wait(PATIENCE_S)
    pair.primary._end()
    pair.promote()
    second.process.wait_for("the broker begins anew")
    broker.process.wait_for("the broker begins anew")
    told = broker.process.wait_for(r"acknowledged last may be lost, at most sends=(\d+) ends=(\d+)")
    assert (int(told[1]) >= 1, int(told[2]) >= 2) == (True, True)
    # Its end was acknowledged and lost; nobody holds its lease.
    field.begun(reported, times=2)
    assert reported.wait(PATIENCE_S)
    sent = [app.once.with_config(queue="new").send(number) for number in range(5)]
    assert all(each.wait(PATIENCE_S) for each in sent)
    with urlopen(
        broker.process.wait_for(r"broker metrics: (\S+)", times=2)[1], timeout=PATIENCE_S
    ) as scraped:
        shown = scraped.read().decode()
    assert f'hyrex_failover_unreplicated_total{{what="send"}} {told[1]}.0' in shown
    pair.primary.start()  # not fenced
    run_apart(_left(pair))
    newcomer = field.broker(lease_s=LONG_LEASE_S)  # which has never seen the new primary
    look = f"select count(*) from hyrex.broker where address = '{newcomer.address}'"
    assert (value(pair.primary.url, look), value(pair.standby.url, look)) == (0, 1)


async def _left(pair: Pair) -> None:
    """Who has seen the new primary never uses the old one again, though that is the first in the URL."""
    timeline = NewestTimeline()
    for url, ports in ((pair.standby.url, {pair.standby._port}), (pair.url, {pair.standby._port})):
        database = Database(url, hot_connections=1, read_connections=1)
        database.connector.checks.append(timeline.check)
        await database.open()
        assert {row[0] for row in await database.fetch("select inet_server_port()")} == ports
        await database.close()
    old = Database(pair.primary.url)
    old.connector.checks.append(timeline.check)
    with pytest.raises(StorageUnavailable, match="a primary that was replaced"):
        await old.open()


def test_a_broker_whose_own_row_is_lost_registers_anew(start_broker: StartBroker, database_url: str) -> None:
    broker = start_broker()
    with grpc.insecure_channel(broker.address) as channel:
        sends: SimpleQueue[task_service_pb2.StreamSubmitRequest | None] = SimpleQueue()
        stream = TaskServiceStub(channel).StreamSubmit(iter(sends.get, None), timeout=PATIENCE_S)
        sends.put(task_service_pb2.StreamSubmitRequest(sequence=1))
        assert next(stream).sequence == 1
        execute_now(database_url, "delete from hyrex.broker")
        broker.process.wait_for("the broker begins anew")
        assert list(stream) == []  # ended as at a stop, with OK
        sends.put(None)
    look = f"select count(*) = 1 from hyrex.broker where address = '{broker.address}'"
    eventually(lambda: value(database_url, look))
