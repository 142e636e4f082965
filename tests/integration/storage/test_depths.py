"""What waits is counted by queue, to a cap; the oldest broker that shows metrics is the one that reads."""

import pytest

from hyrex_broker.storage import depths
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.depths import DepthStore, WaitingTasks
from tests.integration.storage.keys import keyed, submit_keyed
from tests.integration.storage.stage import Stage


async def test_depths_add_up_names_and_priorities_of_a_queue(stage: Stage) -> None:
    await stage.submitted(3, queue="a", name="one")
    await stage.submitted(2, queue="a", name="two", rank=1)
    await stage.submitted(1, queue="b")
    await stage.execute(
        "insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries,"
        " releases, alone) select gen_random_uuid(), id, 5, now() + interval '1 hour', 0, 0, 0, 0, false"
        " from lane"
    )
    await stage.execute("update ready set arrival = now() - interval '1 minute' where rank = 1")
    found = await DepthStore(stage.database).read()
    assert {queue: (depth.ready, depth.delayed) for queue, depth in found.items()} == {
        "a": (5, 2),
        "b": (1, 1),
    }
    assert 60 <= found["a"].oldest_ready_s < 600
    assert found["b"].oldest_ready_s < 60


async def test_what_is_blocked_is_counted_by_queue_and_is_not_ready(stage: Stage) -> None:
    await submit_keyed(stage, keyed(), keyed(), keyed())
    found = await DepthStore(stage.database).read()
    assert [(each.ready, each.delayed, each.blocked) for each in found.values()] == [(1, 0, 2)]


async def test_a_count_stops_at_its_cap(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depths, "MOST_OF_ONE", 4)
    await stage.submitted(9, queue="a", name="one")
    await stage.submitted(3, queue="a", name="two")
    assert (await DepthStore(stage.database).read())["a"].ready == 4 + 3
    monkeypatch.setattr(depths, "_MOST_IN_ALL", 5)
    assert (await DepthStore(stage.database).read())["a"].ready == 2 + 2


async def test_nothing_waits_where_nothing_is(stage: Stage) -> None:
    assert await DepthStore(stage.database).read() == {}
    await stage.submitted(1, queue="a")
    await stage.execute("delete from ready")
    assert await DepthStore(stage.database).read() == dict[str, WaitingTasks]()


async def test_the_oldest_broker_alive_that_observes_is_elected(stage: Stage) -> None:
    brokers = BrokerStore(stage.database)
    first, second = [await brokers.register(name, "x:1", "1", observes=True) for name in ("one", "two")]
    assert [await brokers.reads_depths(each) for each in (stage.broker, first, second)] == [
        False,
        True,
        False,
    ]
    await brokers.unregister(first)
    assert [await brokers.reads_depths(each) for each in (first, second)] == [False, True]


async def test_a_broker_that_was_seen_before_the_clock_was_set_back_is_not_elected(stage: Stage) -> None:
    brokers = BrokerStore(stage.database)
    first, second = [await brokers.register(name, "x:1", "1", observes=True) for name in ("one", "two")]
    await stage.execute("update broker set seen_at = now() + interval '1 hour' where id = $1", first)
    assert [await brokers.reads_depths(each) for each in (first, second)] == [False, True]
