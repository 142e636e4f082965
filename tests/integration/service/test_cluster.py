"""WatchCluster: one computation for all who look, nothing for nobody, and what needs somebody."""

import asyncio
import shlex
from types import SimpleNamespace

import pytest

from hyrex.v1 import admin_service_pb2 as messages
from hyrex_broker.domain.counters import Counters
from hyrex_broker.domain.errors import QuotaExceeded
from hyrex_broker.domain.model import LaneId
from hyrex_broker.engine import overview
from hyrex_broker.engine.cluster.stats import CountedSteps
from hyrex_broker.engine.overview import Overview, Parts
from hyrex_broker.service import cluster
from hyrex_broker.service.cluster import OwnRates
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import Stubs, reason_of
from tests.support.loops import end


async def frame(stubs: Stubs) -> messages.WatchClusterResponse:
    """The cluster as it stands now."""
    answer: messages.WatchClusterResponse = await stubs.steering.overview._compute()
    return answer


async def test_a_frame_shows_queues_workers_runs_and_brokers(stubs: Stubs, seed: Seed) -> None:
    broker = await seed.broker("broker-7")
    session = await seed.session(owner=broker, worker="worker-7", patterns=("ma*",), tasks=("send",))
    await seed.ready(await seed.task(queue="mail", name="send"))
    await seed.delayed(await seed.task(queue="mail", name="send"))
    running = await seed.lease(await seed.task(queue="mail", name="send"), session)
    call = stubs.admin.WatchCluster(messages.WatchClusterRequest())
    shown = await call.read()
    call.cancel()
    (mail,) = shown.queues
    assert (mail.queue.name, mail.queue.queued, mail.queue.delayed, mail.queue.running) == ("mail", 1, 1, 1)
    assert mail.queue.workers == 1
    assert mail.HasField("oldest_ready_at")
    (worker,) = shown.workers
    assert (worker.session.worker_name, list(worker.session.task_names)) == ("worker-7", [])
    assert [(run.task_id, run.name, run.queue) for run in worker.runs] == [(running, "send", "mail")]
    assert [each.name for each in shown.brokers] == ["broker-7"]
    assert not shown.needs
    assert shown.HasField("at")


async def test_what_needs_somebody_comes_with_the_command_that_mends_it(stubs: Stubs, seed: Seed) -> None:
    session = await seed.session(patterns=("served*",), tasks=("known",))
    await seed.ready(await seed.task(queue="no one's", name="known"))
    await seed.ready(await seed.task(queue="served", name="strange"))
    await seed.ready(await seed.task(queue="served", name="known"))
    await seed.ready(await seed.task(queue="served.paused", name="known"))
    await seed.ready(await seed.task(queue="--all", name="known"))
    await seed.execute("update queue set paused = true where name in ('served.paused', '--all')")
    for scope, name in (("queue", "served.full"), ("task", "known")):
        await seed.execute(
            "insert into concurrency_limit (namespace, scope, name, maximum, source)"
            " values (0, $1, $2, 1, 'operator')",
            scope,
            name,
        )
    await seed.lease(await seed.task(queue="served.full", name="known"), session)
    await seed.ready(await seed.task(queue="served.full", name="known"))
    needs = {(need.kind, need.queue, need.name): need for need in (await frame(stubs)).needs}
    assert set(needs) == {
        (messages.NEED_KIND_QUEUE_NOT_SERVED, "no one's", ""),
        (messages.NEED_KIND_TASK_UNKNOWN, "served", "strange"),
        (messages.NEED_KIND_PAUSED_WITH_BACKLOG, "served.paused", ""),
        (messages.NEED_KIND_PAUSED_WITH_BACKLOG, "--all", ""),
    }
    for need in needs.values():
        assert need.sentence
        assert need.remedy.startswith("hyrex ")
        assert need.HasField("since")
    named = needs[messages.NEED_KIND_QUEUE_NOT_SERVED, "no one's", ""].remedy
    assert shlex.split(named) == ["hyrex", "run-worker", "MODULE:APP", "--queue=no one's"]
    dashed = needs[messages.NEED_KIND_PAUSED_WITH_BACKLOG, "--all", ""].remedy
    assert shlex.split(dashed) == ["hyrex", "queue", "resume", "--", "--all"]
    await seed.execute("update ready set arrival = arrival - interval '6 minutes'")
    full = {(need.queue, need.name) for need in (await frame(stubs)).needs if need.kind == 4}
    assert full == {("served.full", ""), ("", "known")}


async def test_names_that_no_worker_has_are_told_together_for_each_queue(stubs: Stubs, seed: Seed) -> None:
    await seed.session(patterns=("*",), tasks=("known",))
    for number in range(7):
        await seed.ready(await seed.task(queue="mail", name=f"strange-{number}"))
    await seed.ready(await seed.task(queue="other", name="strange-0"))
    told = {need.queue: need for need in (await frame(stubs)).needs}
    assert [told["mail"].name, told["other"].name] == ["", "strange-0"]
    first = ", ".join(f"strange-{number}" for number in range(5))
    assert told["mail"].sentence.startswith(f"no connected worker has {first} and 2 more, and tasks of them")
    assert len((await frame(stubs)).needs) == 2


async def test_large_clusters_are_named_in_part(
    stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_QUEUES", 2)
    monkeypatch.setattr(cluster, "MOST_WORKERS", 1)
    monkeypatch.setattr(cluster, "MOST_RUNS", 1)
    sessions = [await seed.session() for _ in range(2)]
    for name in ("a", "b", "c"):
        await seed.lease(await seed.task(queue=name), sessions[1])
    shown = await frame(stubs)
    assert [each.queue.name for each in shown.queues] == ["a", "b"]
    assert (len(shown.workers), len(shown.workers[0].runs)) == (1, 1)
    assert (shown.queues_capped, shown.workers_capped) == (True, True)


async def test_rates_are_those_of_this_broker_and_of_the_others(stubs: Stubs, seed: Seed) -> None:
    await seed.lane("mail")
    await seed.execute(
        "insert into stat (at, broker, queue, submitted, completed, failed, lost)"
        " select date_bin('10 seconds', now() - n * interval '5 seconds', 'epoch'),"
        " 77, 'mail', 50, 40, 10, 10"
        " from generate_series(1, 6, 2) n"
    )
    await seed.execute("insert into stat (at, broker, queue, submitted) select at, 1, queue, 10 from stat")
    (first,) = (await frame(stubs)).queues
    assert (first.submitted_per_s, first.completed_per_s, first.failed_per_s) == (6, 4, 2)
    (mail,) = (await frame(stubs)).queues
    assert (mail.submitted_per_s, mail.completed_per_s, mail.failed_per_s) == (5, 4, 2)


def test_own_rates_are_over_the_time_since_somebody_began_to_look() -> None:
    counters, lane = Counters(), LaneId(1)
    rates = OwnRates(CountedSteps(counters, {lane: ("mail", "send")}))
    counters.stored({lane: 100})
    assert rates.now() is None
    counters.stored({lane: 100})
    submitted, completed, failed = (rates.now() or {})["mail"]
    assert submitted > 0
    assert (completed, failed) == (0, 0)


async def test_many_who_look_cost_one_computation_and_nobody_costs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overview, "EVERY_S", 0.0)
    monkeypatch.setattr(overview, "_SHARE", 0)
    begun = made = 0

    async def compute() -> int:
        nonlocal begun, made
        begun += 1
        await asyncio.sleep(0)
        made = begun
        return made

    shared: Overview[int] = Overview(compute)
    running = asyncio.create_task(shared.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert begun == 0
    watchers = [shared.frames() for _ in range(50)]
    first = await asyncio.gather(*(anext(frames) for frames in watchers))
    assert len(set(first)) == 1
    for frames in watchers:
        await frames.aclose()
    async with asyncio.timeout(60):
        while made < begun:
            await asyncio.sleep(0)
    rested = begun
    for _ in range(20):
        await asyncio.sleep(0)
    assert begun == rested
    await end(running)


async def test_a_caller_takes_no_more_places_than_it_leaves_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overview, "MOST_LOOKING", 8)

    async def compute() -> int:
        return 1

    shared: Overview[int] = Overview(compute)
    running = asyncio.create_task(shared.run())
    places = []
    try:
        async with asyncio.timeout(60):
            for caller, many in (("a", 4), ("b", 2), ("c", 1)):
                for _ in range(many):
                    places.append(shared.frames(caller))
                    await anext(places[-1])
                with pytest.raises(QuotaExceeded):
                    await anext(shared.frames(caller))
            await places[0].aclose()
            places.append(shared.frames("d"))
            await anext(places[-1])
    finally:
        for each in places:
            await each.aclose()
        await end(running)


async def test_parts_are_made_once_for_all_who_see_the_same_and_cost_no_more_than_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(overview, "time", SimpleNamespace(monotonic=lambda: now))
    made: list[str] = []

    async def compute(part: str) -> int:
        nonlocal now
        now += 1.0
        made.append(part)
        return len(made)

    parts: Parts[str, int] = Parts(compute)
    assert [await parts.newest("a"), await parts.newest("a"), await parts.newest("b")] == [1, 1, 2]
    now += 18.0
    assert [await parts.newest("a"), await parts.newest("b")] == [1, 2]
    now += 2.0
    assert [await parts.newest("a"), await parts.newest("b")] == [3, 2], "two parts: half as often"
    now += 30.0
    assert [await parts.newest("a"), await parts.newest("b")] == [3, 4]


async def test_too_many_who_look_are_refused(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MOST_LOOKING", 1)
    first = stubs.admin.WatchCluster(messages.WatchClusterRequest())
    await first.read()
    second = stubs.admin.WatchCluster(messages.WatchClusterRequest())
    assert await reason_of(second.read()) == "QUOTA_EXCEEDED"
    first.cancel()
