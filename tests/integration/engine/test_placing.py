"""Leases of statements that overtake each other, fail half-way, or were cut off from us."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import Outcome
from hyrex_broker.engine.dispatch import lease_placer as placing
from hyrex_broker.storage.assign import AssignStore
from hyrex_broker.storage.submit import SubmitStore
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import end_of, new_task
from tests.support.assigned import runs_of


async def test_a_frame_promises_nothing_of_runs_that_are_not_sent_yet(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assign that waits for a large payload is overtaken by a hand-off to the same session: a heartbeat
    after the second frame must not make the first one's runs orphans."""
    session, link = await bench.worker(capacity=3000)  # an assign reserves up to a thousand slots
    asked, may_answer = asyncio.Event(), asyncio.Event()
    payloads = AssignStore.payloads

    async def slow(self: AssignStore, *args: Any) -> Any:
        asked.set()
        await may_answer.wait()
        return await payloads(self, *args)

    monkeypatch.setattr(AssignStore, "payloads", slow)
    link.backlogged = True
    await bench.submit([new_task(payload=b"x" * 100_000)])
    link.backlogged = False
    bench.engine.sessions.on_capacity()
    await asyncio.wait_for(asked.wait(), 60)
    await bench.submit([new_task()])
    (overtaking,) = await link.until_runs(1)
    receipt = link.frames[0][0]
    assert bench.engine.heartbeats.beat(session, 1, [overtaking.token], receipt) == []
    may_answer.set()
    (_, overtaken) = await link.until_runs(2)
    assert receipt < overtaken.sequence < overtaking.sequence
    assert link.frames[1][0] == overtaking.sequence


async def test_leases_of_an_unknown_commit_return_and_are_assigned_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, link = await bench.worker()
    assign = AssignStore.assign
    cut = asyncio.Event()

    async def answer_lost(self: AssignStore, *args: Any) -> Any:
        result = await assign(self, *args)
        if result.blocks and not cut.is_set():
            cut.set()
            raise StorageUnavailable("the answer was lost")
        return result

    monkeypatch.setattr(AssignStore, "assign", answer_lost)
    monkeypatch.setattr(bench.engine.dispatcher, "reserve_slots", lambda counts: [])
    await bench.submit([new_task() for _ in range(5)])
    runs = await link.until_runs(5)
    assert cut.is_set()
    assert Counter(run.run_number for run in runs) == {0: 5}
    assert (await bench.database.fetchrow("select count(*) from lease"))[0] == 5  # type: ignore[index]


async def test_a_commit_after_the_first_look_is_found_by_the_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We were cut off from a statement; it commits when we have already looked for its leases."""
    monkeypatch.setattr(placing, "LATEST_COMMIT_S", 1.0)
    _, link = await bench.worker()
    assign = AssignStore.assign
    late: list[Any] = []

    async def cut_off(self: AssignStore, plan: Any, *args: Any) -> Any:
        if not late:
            late.append((self, plan, args))
            raise StorageUnavailable("cut off")
        return await assign(self, plan, *args)

    monkeypatch.setattr(AssignStore, "assign", cut_off)
    monkeypatch.setattr(bench.engine.dispatcher, "reserve_slots", lambda counts: [])
    await bench.submit([new_task()])
    async with asyncio.timeout(60):
        while not bench.engine.dispatcher._placer._unresolved[0].due:
            link.backlogged = True
            await asyncio.sleep(0.01)
    store, plan, args = late[0]
    committed = await assign(store, plan, *args)
    link.backlogged = False
    (run,) = await link.until_runs(1)
    assert run.token not in {run.token for run in runs_of(committed.blocks)}
    assert run.run_number == 0


async def test_limits_that_leave_a_worker_out_still_reach_the_other(bench: Bench) -> None:
    limits = [("task", "work", 1)]
    links = [(await bench.worker(limits=limits))[1] for _ in range(3)]
    await bench.submit([new_task() for _ in range(6)])
    done = 0
    async with asyncio.timeout(60):
        while done < 6:
            for link in links:
                for run in link.runs:
                    link.frames.clear()
                    await bench.report([end_of(run, Outcome.COMPLETED)])
                    done += 1
            await asyncio.sleep(0.005)


async def test_a_session_that_leaves_between_two_statements_ends_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round serves a free and a limited lane; the session leaves between the two statements."""
    session, link = await bench.worker(tasks=["work", "narrow"], limits=[("task", "narrow", 1)])
    assign = AssignStore.assign

    async def leaving(self: AssignStore, *args: Any) -> Any:
        result = await assign(self, *args)
        bench.engine.sessions.leave(session)
        return result

    monkeypatch.setattr(AssignStore, "assign", leaving)
    monkeypatch.setattr(bench.engine.dispatcher, "reserve_slots", lambda counts: [])
    link.backlogged = True
    await bench.submit([new_task(), new_task(name="narrow")])
    link.backlogged = False
    bench.engine.sessions.on_capacity()
    async with asyncio.timeout(60):
        while session.session_id in bench.engine.sessions.by_id:
            await asyncio.sleep(0.01)
    _, link = await bench.worker(tasks=["work", "narrow"], limits=[("task", "narrow", 1)])
    monkeypatch.setattr(AssignStore, "assign", assign)
    await link.until_runs(1)


async def test_a_row_that_was_left_below_the_mark_is_found(bench: Bench) -> None:
    """Its insert had failed half-way, by all that this broker knew; assigns never read below the mark."""
    _, link = await bench.worker()
    await bench.submit([new_task()])
    await link.until_runs(1)
    (marked,) = {lane for lane, _, _ in bench.engine.dispatcher._schedule.marked()}
    task = new_task()
    await bench.database.execute(
        "with stored as (insert into task (id, lane, rank, max_retries, digest, payload)"
        " values ($1, $2, 5, 0, 0, '{}'))"
        " insert into ready values ($1, $2, 5, now() - interval '1 hour', 0, 0, 0, 0, false)",
        task.task_id,
        marked,
    )
    await bench.engine.dispatcher._find_below_marks()
    assert (await link.until_runs(2))[1].task_id == task.task_id


async def test_nothing_is_handed_off_while_commits_are_in_doubt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt would leave one more plan of unknown end to settle."""
    await bench.worker()
    submit = SubmitStore.submit_handing_off
    plans: list[Any] = []

    async def cut_off(self: SubmitStore, batch: Any, plan: Any, slots: Any) -> Any:
        plans.append(plan)
        raise StorageUnavailable("cut off")

    monkeypatch.setattr(SubmitStore, "submit_handing_off", cut_off)
    for _ in range(5):
        try:
            await bench.submit([new_task()])
        except StorageUnavailable:
            continue
    assert len(plans) == 1
    monkeypatch.setattr(SubmitStore, "submit_handing_off", submit)


@pytest.mark.parametrize("handed_off", [True, False])
async def test_a_trace_context_reaches_the_worker_however_its_task_is_placed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, handed_off: bool
) -> None:
    _, link = await bench.worker()
    if not handed_off:
        monkeypatch.setattr(bench.engine.dispatcher, "reserve_slots", lambda counts: [])
    traced, plain = new_task(trace_context=b"t" * 26), new_task()
    await bench.submit([traced, plain])
    runs = {run.task_id: run for run in await link.until_runs(2)}
    assert runs[traced.task_id].trace_context == b"t" * 26
    assert not any(runs[plain.task_id].trace_context)


async def test_a_lane_with_a_limit_has_its_turn_beside_others(bench: Bench) -> None:
    """With a plan for the lanes without a limit and one for the others, the turns went round twice
    an assign: of two limited lanes, one was never read while room came two slots at a time."""
    names = ["plain", "limited-1", "limited-2"]
    session, link = await bench.worker(0, names, [("task", name, 100) for name in names[1:]])
    await bench.submit([new_task(name=name) for name in names for _ in range(12)])
    for room in range(2, 14, 2):
        bench.engine.sessions.set_capacity(session, {"sync": room}, {})
        await link.until_runs(room)
    assert Counter(run.name for run in link.runs) == dict.fromkeys(names, 4)


async def test_slots_kept_for_limited_lanes_go_only_to_sessions_that_are_still_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the other lanes are assigned, a worker may leave, and another one may want no more."""
    assign = AssignStore.assign
    names = ["plain", "limited"]
    leaving, _ = await bench.worker(0, names, [("task", "limited", 100)])
    full, last = await bench.worker(0, names)
    await bench.submit([new_task(name=name) for name in names for _ in range(4)])

    async def meanwhile(self: AssignStore, *args: Any) -> Any:
        result = await assign(self, *args)
        bench.engine.sessions.leave(leaving)
        full.capacity["sync"] = 1
        return result

    monkeypatch.setattr(AssignStore, "assign", meanwhile)
    leaving.capacity["sync"] = full.capacity["sync"] = 2
    await bench.engine.dispatcher._assign()
    rows = await bench.database.fetch("select session_id, count(*) from lease group by 1")
    assert dict(map(tuple, rows)) == {leaving.session_id: 1, full.session_id: 1}
    assert [run.name for run in last.runs] == ["plain"]
