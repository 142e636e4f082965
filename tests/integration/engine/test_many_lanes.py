"""Lanes and queues grow within bounds, and those that a broker never met cost it nothing."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from hyrex_broker.domain.errors import FlowControl, QuotaExceeded, TooManyQueues
from hyrex_broker.domain.model import LaneId, SubmitAnswer
from hyrex_broker.engine.growth import AT_ONCE, PER_S, Growth
from hyrex_broker.engine.sessions import registry, session_room
from hyrex_broker.storage.assign import AssignResult, AssignStore, Plan
from hyrex_broker.storage.queues import LimitChange, QueueChange, QueueStore
from tests.integration.engine.bench import Bench, Link, introduced, running_engine
from tests.integration.storage.conftest import execute
from tests.integration.storage.stage import new_task

_MANY = 200_000
_LANES = 200


@pytest.fixture
def few(bench: Bench) -> int:
    """A broker that has nearly made what it may."""
    bench.engine.directory._growth.take(AT_ONCE - 3)
    return 3


async def test_tasks_of_a_queue_too_many_are_refused_and_the_others_stored(bench: Bench, few: int) -> None:
    tasks = [new_task(queue=f"q{number}") for number in range(few + 2)]
    answers = list(await bench.submit(tasks))
    refused = [answer for answer in answers if isinstance(answer, TooManyQueues)]
    assert len(refused) <= 2
    assert refused
    assert "'q" in refused[0].message
    assert refused[0].metadata == {"limit": str(AT_ONCE)}
    assert sum(isinstance(answer, SubmitAnswer) for answer in answers) == len(tasks) - len(refused)
    rows = await bench.database.fetch("select queue from lane")
    assert len(rows) == len(tasks) - len(refused)
    known = new_task(queue=rows[0]["queue"])
    assert isinstance((await bench.submit([known]))[0], SubmitAnswer)


async def test_what_was_there_already_takes_nothing_from_growth(bench: Bench, few: int) -> None:
    for number in range(few):
        await bench.submit([new_task(queue=f"q{number}")])
    await bench.engine.directory.make_queues([f"q{number}" for number in range(few)])
    await bench.worker(tasks=[])


async def test_definitions_and_queues_too_many_are_refused(bench: Bench, few: int) -> None:
    with pytest.raises(TooManyQueues, match="task task-"):
        await bench.worker(tasks=[f"task-{number}" for number in range(few + 100)])
    with pytest.raises(TooManyQueues, match="queue 'more-"):
        await bench.engine.directory.declare([], [], [f"more-{number}" for number in range(100)])


def test_growth_comes_back_with_time() -> None:
    growth = Growth()
    assert growth.take(AT_ONCE + 1) == AT_ONCE
    assert growth.take(1) == 0
    growth._since -= 10 / PER_S
    assert growth.take(100) == 10
    growth.give_back(4)
    assert growth.take(100) == 4


async def test_one_session_too_many_is_refused_until_another_leaves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is declared or stored; a session that is served may change its stream all the same."""
    monkeypatch.setattr(session_room, "MOST_SESSIONS", 2)
    first, _ = await bench.worker()
    second, _ = await bench.worker()
    with pytest.raises(QuotaExceeded, match="another broker") as caught:
        await bench.worker(tasks=["never-declared"])
    assert caught.value.metadata == {"limit": "2", "bound": "broker"}
    assert not await bench.database.fetch("select from lane where name = 'never-declared'")
    ((rows,),) = await bench.database.fetch("select count(*) from worker_session")
    assert rows == 2
    await bench.resumed(first)
    bench.engine.sessions.leave(second)
    await bench.worker()
    await bench.resumed(second)
    assert len(bench.engine.sessions.by_id) == 3, "a session that resumes holds runs: it is not refused"


async def test_the_workers_of_one_token_leave_room_for_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_room, "MOST_SESSIONS", 4)

    async def begin(token: str | None) -> None:
        hello = replace(introduced(1, ["work"]), token=token)
        await bench.engine.sessions.open(hello, Link())

    await begin("one")
    await begin("one")
    with pytest.raises(QuotaExceeded, match="for others"):
        await begin("one")
    await begin("other")
    await begin(None)
    with pytest.raises(QuotaExceeded, match="and no more"):
        await begin(None)


async def test_a_start_and_a_limit_cost_no_more_with_many_lanes(bench: Bench, storage_url: str) -> None:
    """A broker knows the lanes that it met; a limit looks at its own."""
    # On a bare connection: a broker's statements have a few seconds, however slow the machine.
    await execute(
        storage_url,
        "insert into lane (namespace, queue, name, limited)"
        f" select 0, 'q' || n, 'work', false from generate_series(1, {_MANY}) n",
        "analyze lane",
    )
    async with running_engine(storage_url) as other:
        assert other.engine.directory.names == {}
        await QueueStore(other.database).update("q5", QueueChange(limit=LimitChange(1)))
        rows = await other.database.fetch("select queue from lane where limited")
        assert [row["queue"] for row in rows] == ["q5"]
        await other.submit([new_task(queue="q7")])
        _, link = await other.worker()
        await link.until_runs(1)
        assert len(other.engine.directory.names) < 10


async def test_work_in_a_lane_that_another_broker_made_is_found_at_once(
    bench: Bench, storage_url: str
) -> None:
    _, link = await bench.worker()
    async with running_engine(storage_url) as other:
        await other.submit([new_task(queue="elsewhere")])
        (run,) = await link.until_runs(1)
    assert run.queue == "elsewhere"


async def test_a_backlog_of_many_lanes_takes_no_more_statements_than_one_of_a_single_lane(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue for each tenant is common: a task was 23 times as dear when its backlog had 20,000 queues."""
    sizes, assign = [], AssignStore.assign

    async def counted(self: AssignStore, plan: Plan, names: Mapping[LaneId, tuple[str, str]]) -> AssignResult:
        sizes.append(len(plan.quotas))
        return await assign(self, plan, names)

    monkeypatch.setattr(AssignStore, "assign", counted)
    await bench.submit([new_task(queue=f"q{number}") for number in range(_LANES)])
    await bench.submit([new_task(queue=f"q{number}") for number in range(_LANES)])
    _, link = await bench.worker(capacity=2 * _LANES)
    await link.until_runs(2 * _LANES)
    assert max(sizes) == _LANES
    assert len(sizes) < 10


async def test_one_kind_of_worker_too_many_waits_for_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 kinds with 10,000 names each took 91 MiB; how many kinds there are was for workers to say."""
    monkeypatch.setattr(registry, "MOST_NAMES", 4)
    first, _ = await bench.worker(tasks=["a", "b", "c"])
    with pytest.raises(FlowControl, match="another broker"):
        await bench.worker(tasks=["a", "b"])
    alike, _ = await bench.worker(tasks=["a", "b", "c"])
    rows = await bench.database.fetch("select id from worker_session order by id")
    assert [row["id"] for row in rows] == [first.session_id, alike.session_id]
    with pytest.raises(FlowControl):
        await bench.engine.sessions.resume(first.session_id, first.secret, introduced(1, ["a", "b"]), Link())
    assert first.session_id in bench.engine.sessions.by_id
    for session in (first, alike):
        bench.engine.sessions.leave(session)
    await bench.worker(tasks=["a", "b"])
