"""Statistics: what a broker counted is written once, in rows that add up, and rolled up to 5 minutes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.runtime.histogram import RUN_BOUNDS_US
from hyrex.v1 import admin_service_pb2 as messages
from hyrex_broker.domain.counters import OTHER
from hyrex_broker.domain.model import BrokerId, LaneId, Outcome
from hyrex_broker.domain.quantiles import quantile
from hyrex_broker.engine.cluster import stats
from hyrex_broker.storage import partitions
from hyrex_broker.storage.pool import Database
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import Stubs, reason_of

MAIL, OTHERS = LaneId(1), LaneId(2)


@pytest.fixture
def counting(stubs: Stubs) -> Stubs:
    stubs.recorded.lanes.update({MAIL: ("mail", "send"), OTHERS: ("other", "else")})
    return stubs


async def points(stubs: Stubs, **wanted: Any) -> list[messages.StatPoint]:
    answer = await stubs.admin.GetStats(messages.GetStatsRequest(**wanted))
    return list(answer.points)


async def test_what_was_counted_is_written_once_and_by_queue(
    counting: Stubs, database: Database, seed: Seed
) -> None:
    counters, writer = database.counters, counting.steering.stats
    counters.stored({MAIL: 30, OTHERS: 5})
    counters.returned(MAIL, 10, [20_000])
    counters.run_ended(MAIL, Outcome.FAILED, final=False)
    counters.run_ended(MAIL, Outcome.TIMED_OUT, final=True)
    counters.taken(MAIL, 12, 3_000)
    await writer.write(rolls_up=False)
    await writer.write(rolls_up=False)
    (mail,) = await points(counting, queue="mail")
    assert (mail.submitted, mail.completed, mail.failed, mail.timed_out, mail.retried) == (30, 10, 0, 1, 1)
    assert (mail.waits, mail.runs, round(mail.run_seconds, 6)) == (12, 10, 0.2)
    assert 0.001 <= mail.wait_p50_s <= mail.wait_p99_s <= 0.005
    assert 0.005 <= mail.run_p50_s <= mail.run_p99_s <= 0.025
    total = await points(counting)  # and perhaps one of how much waits, where ten seconds have passed
    assert [sum(each.submitted for each in total), sum(each.completed for each in total)] == [35, 10]
    assert await seed.execute("select count(*) from stat where ready is null") == 3
    counters.stored({MAIL: 1})
    await writer.write(rolls_up=False)
    assert sum(point.submitted for point in await points(counting, queue="mail")) == 31


async def test_what_could_not_be_written_is_told_with_the_next_step(
    counting: Stubs, database: Database
) -> None:
    steps = stats.CountedSteps(database.counters, counting.recorded.lanes)
    database.counters.stored({MAIL: 3})
    assert steps.step()["mail"].submitted == 3
    database.counters.stored({MAIL: 2, OTHER: 7})
    step = steps.step()
    assert (step["mail"].submitted, step[""].submitted) == (5, 12)
    steps.settle()
    assert "mail" not in steps.step()


async def test_the_busiest_queues_have_rows_of_their_own(
    counting: Stubs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "MOST_QUEUES", 1)
    database.counters.stored({MAIL: 1, OTHERS: 2})
    await counting.steering.stats.write(rolls_up=False)
    assert await points(counting, queue="mail") == []
    assert (await points(counting, queue="other"))[0].submitted == 2
    assert (await points(counting))[0].submitted == 3


async def test_one_broker_looks_at_depths_in_a_step(counting: Stubs, seed: Seed) -> None:
    session = await seed.session()
    for _ in range(3):
        await seed.ready(await seed.task(queue="mail"))
    await seed.delayed(await seed.task(queue="mail"))
    await seed.blocked(await seed.task(queue="keyed"))
    await seed.lease(await seed.task(queue="other"), session)
    store = counting.steering.stats._store
    for broker in (1, 2, 3):
        await store.look_at_depths(BrokerId(broker))
    looked = await points(counting, step={"seconds": 86_400})
    assert [(each.ready, each.delayed, each.blocked, each.running) for each in looked] == [(3, 1, 1, 1)]
    assert [each.blocked for each in await points(counting, queue="keyed", step={"seconds": 86_400})] == [1]
    (mail,) = await points(counting, queue="mail", step={"seconds": 86_400})
    assert (mail.ready, mail.delayed, mail.running, mail.HasField("oldest_ready_s")) == (3, 1, 0, True)
    steps = await seed.execute("select count(distinct at) from stat")
    assert await seed.execute("select count(*) from stat where queue = ''") == steps


async def test_steps_are_rolled_up_once_and_read_without_a_gap(counting: Stubs, seed: Seed) -> None:
    now = await seed.execute("select date_bin('5 minutes', now(), 'epoch')")
    for minutes, broker in ((21, 1), (21, 2), (11, 1), (0, 1)):
        await seed.execute(
            "insert into stat (at, broker, queue, submitted, waits, ready) values ($1, $2, '', 4, $3, $4)",
            now - timedelta(minutes=minutes),
            broker,
            [1, 2],
            minutes,
        )
    store = counting.steering.stats._store
    await store.roll_up()
    await store.roll_up()
    rolled = await seed.rows("select submitted, waits, ready from stat_5min order by at")
    assert [tuple(row) for row in rolled] == [(8, [2, 4], 21), (4, [1, 2], 11)]
    until = Timestamp()
    until.FromDatetime(now + timedelta(minutes=5))
    found = await points(counting, until=until, step={"seconds": 300})
    assert [(point.submitted, point.waits) for point in found] == [(8, 6), (4, 3), (4, 3)]
    fine = await points(counting, until=until, step={"seconds": 10})
    assert [point.submitted for point in fine] == [8, 4, 4]


async def test_old_days_of_statistics_are_dropped_and_others_kept(
    seed: Seed, database_url: str, counting: Stubs
) -> None:
    today = datetime.now(UTC).date()
    for parent, age in (("stat", 1), ("stat", 2), ("stat_5min", 30), ("stat_5min", 31)):
        await seed.execute("select make_partition($1, $2)", parent, today - timedelta(days=age))
    await partitions.drop_statistics(seed._connection)
    kept = await seed.rows(
        "select relname from pg_class where relkind = 'r' and relname ~ '^stat.*_[0-9]{8}$' order by relname"
    )
    days = {row[0] for row in kept}
    assert f"stat_{today - timedelta(days=1):%Y%m%d}" in days
    assert f"stat_5min_{today - timedelta(days=30):%Y%m%d}" in days
    assert f"stat_{today - timedelta(days=2):%Y%m%d}" not in days
    assert f"stat_5min_{today - timedelta(days=31):%Y%m%d}" not in days


@pytest.mark.parametrize(
    "wanted",
    [
        {"step": {"seconds": 9}},
        {"since": {"seconds": 10}, "until": {"seconds": 5}},
        {"since": {"seconds": 1_700_000_000}, "until": {"seconds": 1_710_000_000}, "step": {"seconds": 10}},
        {"queue": "\0"},
    ],
)
async def test_a_range_without_meaning_or_with_too_many_points_is_refused(
    stubs: Stubs, wanted: dict[str, Any]
) -> None:
    assert await reason_of(stubs.admin.GetStats(messages.GetStatsRequest(**wanted))) == "INVALID_FIELD"


async def test_a_step_is_chosen_by_the_range(stubs: Stubs) -> None:
    for days, seconds in ((1 / 24, 10), (1, 300), (30, 7200)):
        since = datetime.now(UTC) - timedelta(days=days)
        request = messages.GetStatsRequest()
        request.since.FromDatetime(since)
        answer = await stubs.admin.GetStats(request)
        assert answer.step.seconds == seconds


def test_a_quantile_lies_within_the_bucket_of_its_rank() -> None:
    counts = [0] * (len(RUN_BOUNDS_US) + 1)
    assert quantile(0.5, RUN_BOUNDS_US, counts) == 0
    counts[1] = 100
    assert RUN_BOUNDS_US[0] < quantile(0.5, RUN_BOUNDS_US, counts) < RUN_BOUNDS_US[1]
    counts[-1] = 100
    assert quantile(0.99, RUN_BOUNDS_US, counts) == RUN_BOUNDS_US[-1]
