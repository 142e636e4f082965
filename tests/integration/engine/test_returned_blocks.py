"""Runs that returned, reported as blocks: each is recorded once and answered for itself."""

import asyncio
from collections.abc import Sequence

import pytest

from hyrex_broker.domain.ended import EndBlock, halves, joined
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.ids import HexId, hex_id
from hyrex_broker.domain.model import Outcome, SessionId, Token
from hyrex_broker.engine.reports import Refused
from hyrex_broker.storage.report import ReportStore, ReturnedLeases
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import new_task
from tests.support.assigned import AssignedRun


def block(runs: Sequence[AssignedRun], *results: bytes) -> EndBlock:
    """They returned."""
    sessions = [run.session_id for run in runs]
    return EndBlock(
        [hex_id(run.task_id) for run in runs],
        [run.token for run in runs],
        results or [b"%d" % place for place in range(len(runs))],
        (1000,),
        sessions[:1] if len(set(sessions)) == 1 else sessions,
    )


async def running(bench: Bench, count: int) -> tuple[SessionId, list[AssignedRun]]:
    """So many runs of one session."""
    session, link = await bench.worker(capacity=count)
    await bench.submit([new_task() for _ in range(count)])
    return session.session_id, await link.until_runs(count)


async def recorded(bench: Bench) -> list[tuple[str, int, bytes]]:
    """(task, outcome, result) of each run."""
    rows = await bench.database.fetch("select task_id, outcome, result from task_run order by task_id")
    return [(str(row[0]), row[1], row[2]) for row in rows]


async def test_each_run_of_a_block_gets_its_own_result_and_leaves_its_slot(bench: Bench) -> None:
    session_id, runs = await running(bench, 30)
    told = [b"%d" % place for place in range(30)]
    shuffled = [*runs[20:], *runs[:20]]
    refused = await bench.engine.reports.report_returned(
        [block(shuffled[:11], *told[:11]), block(shuffled[11:], *told[11:])]
    )
    assert list(refused) == [Refused(), Refused()]
    expected = sorted((run.task_id, 2, result) for run, result in zip(shuffled, told, strict=True))
    assert await recorded(bench) == expected
    session = bench.engine.sessions.by_id[session_id]
    assert (session.free("sync"), len(session.leases)) == (30, 0)


async def test_runs_of_several_sessions_and_lanes_are_recorded_by_one_statement(bench: Bench) -> None:
    runs = [await running(bench, 3) for _ in range(2)]
    blocks = [block(of_one) for _, of_one in runs]
    refused = await asyncio.gather(*(bench.engine.reports.report_returned([each]) for each in blocks))
    assert [list(each) for each in refused] == [[Refused()], [Refused()]]
    again = await bench.engine.reports.report_returned(blocks)
    assert [list(each.duplicate) for each in again] == [list(each.tokens) for each in blocks]
    assert len(await recorded(bench)) == 6


async def test_a_block_that_is_told_again_is_a_duplicate_and_records_nothing(bench: Bench) -> None:
    _, runs = await running(bench, 5)
    reports = bench.engine.reports
    await reports.report_returned([block(runs[:3])])
    (refused,) = await reports.report_returned([block(runs, *[b"again"] * 5)])
    assert sorted(refused.duplicate) == sorted(run.token for run in runs[:3])
    assert refused.stale == []
    assert sorted(result for _, _, result in await recorded(bench)) == [b"0", b"1", b"2", b"again", b"again"]


async def test_a_run_that_is_named_twice_in_one_batch_is_recorded_once(bench: Bench) -> None:
    _, runs = await running(bench, 3)
    twice = [*runs, runs[1]]
    refused = await bench.engine.reports.report_returned([block(twice), block(runs[:1])])
    assert list(refused) == [Refused(), Refused()]
    assert len(await recorded(bench)) == 3


async def test_made_up_tokens_are_stale_and_the_others_of_the_block_count(bench: Bench) -> None:
    session_id, runs = await running(bench, 3)
    forged = block(runs)
    forged.tokens = [forged.tokens[0], Token(forged.tokens[1] + 1), forged.tokens[2]]
    (refused,) = await bench.engine.reports.report_returned([forged])
    assert (list(refused.stale), refused.duplicate) == ([forged.tokens[1]], [])
    assert len(await recorded(bench)) == 2
    assert list(bench.engine.sessions.by_id[session_id].leases) == [runs[1].token]


async def test_a_block_of_another_session_takes_nothing(bench: Bench) -> None:
    session_id, runs = await running(bench, 2)
    forger, _ = await bench.worker(tasks=["other"])
    forged = block(runs)
    forged.session_ids = [forger.session_id]
    own = block(runs, b"real", b"real")
    first, second = await bench.engine.reports.report_returned([forged, own])
    assert sorted(first.stale) == sorted(forged.tokens)
    assert (list(second.duplicate), list(second.stale)) == ([], [])
    assert [result for _, _, result in await recorded(bench)] == [b"real", b"real"]
    assert not bench.engine.sessions.by_id[session_id].leases


async def test_a_cancel_that_comes_before_the_report_of_a_returned_run_changes_nothing(bench: Bench) -> None:
    _, runs = await running(bench, 2)
    await bench.engine.cancels.cancel([run.task_id for run in runs], "too late")
    assert list(await bench.engine.reports.report_returned([block(runs)])) == [Refused()]
    assert [outcome for _, outcome, _ in await recorded(bench)] == [Outcome.COMPLETED] * 2


async def test_a_report_that_lost_a_race_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement misses leases that a cancel has just put in place of others (rule 4)."""
    _, runs = await running(bench, 4)
    real = ReportStore.end_returned

    async def misses(store: ReportStore, ends: EndBlock) -> list[ReturnedLeases]:
        (ended,) = await real(store, ends.taking([0]))
        return [ReturnedLeases(ended.lane, ended.session_id, [0])]

    monkeypatch.setattr(ReportStore, "end_returned", misses)
    assert list(await bench.engine.reports.report_returned([block(runs)])) == [Refused()]
    assert len(await recorded(bench)) == 4


async def test_blocks_that_take_too_long_together_are_recorded_in_halves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, runs = await running(bench, 8)
    real = ReportStore.end_returned
    sizes: list[int] = []

    async def slow(store: ReportStore, ends: EndBlock) -> list[ReturnedLeases]:
        sizes.append(len(ends))
        if len(ends) > 2:
            raise StorageUnavailable("too much", timed_out=True)
        return await real(store, ends)

    monkeypatch.setattr(ReportStore, "end_returned", slow)
    assert list(await bench.engine.reports.report_returned([block(runs)])) == [Refused()]
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert len(await recorded(bench)) == 8


async def test_a_watcher_hears_of_runs_that_were_reported_in_a_block(bench: Bench) -> None:
    _, runs = await running(bench, 3)
    frames = bench.engine.watches.watch([runs[1].task_id])
    async with asyncio.timeout(60):
        (before,) = await anext(frames)
        assert not before.state.final
        await bench.engine.reports.report_returned([block(runs)])
        (after,) = await anext(frames)
    assert after.runs[-1].result == b"1"


def test_a_batch_is_joined_in_the_order_of_the_ids_with_its_columns() -> None:
    first = EndBlock([HexId("b" * 32)], [Token(1)], [b"b"], (), [SessionId(1)], ["text/plain"])
    ids = [HexId("a" * 32), HexId("c" * 32)]
    second = EndBlock(ids, [Token(2), Token(3)], [b"a", b"c"], (7,), [SessionId(2)])
    whole = joined([first, second])
    assert [name[0][0] for name in whole.named()] == ["a", "b", "c"]
    assert [(name[1], name[2]) for name in whole.named()] == [(2, 2), (1, 1), (3, 2)]
    assert (whole.results, whole.elapsed_us) == ([b"a", b"b", b"c"], [7, 0, 7])
    assert whole.content_types == [None, "text/plain", None]
    assert [len(half) for half in halves(whole)] == [1, 2]
    failed = whole.failed(1, "kind", "why")
    assert (failed.task_id[0], failed.token, failed.session_id) == ("b", 1, 1)
    assert (failed.outcome, failed.error_type, failed.retryable) == (Outcome.FAILED, "kind", False)
