"""What one worker says changes nothing of another's leases, whatever tokens it knows."""

import itertools
from dataclasses import replace

from hyrex_broker.domain.ids import hex_id
from hyrex_broker.domain.model import LeaseRef, Outcome, Receipt, TaskId
from hyrex_broker.engine.sessions.session import Introduction
from tests.integration.engine.bench import Bench, Link, introduced
from tests.integration.storage.stage import end_of, new_task

_FAR = 2**32


async def test_a_forged_report_beside_the_real_one_is_stale_and_the_real_one_counts(bench: Bench) -> None:
    """Both in one batch: neither takes the place of the other."""
    session, link = await bench.worker()
    forger, _ = await bench.worker(tasks=["other"])
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    real = end_of(run, Outcome.COMPLETED, result=b"42")
    forged = replace(real, session_id=forger.session_id, result=b'"FORGED"')
    receipts = await bench.report([forged, real, replace(forged)])
    assert list(receipts) == [Receipt.STALE, Receipt.ACCEPTED, Receipt.STALE]
    row = await bench.database.fetchrow(
        "select result, session_id from task_run where task_id = $1", run.task_id
    )
    assert row is not None
    assert (row["result"], row["session_id"]) == (b"42", session.session_id)


async def test_a_forged_report_takes_nothing_from_its_victim(bench: Bench) -> None:
    """Its broker still knows the lease: the next heartbeat must not tell the victim that it is void."""
    session, link = await bench.worker()
    forger, _ = await bench.worker(tasks=["other"])
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    forged = end_of(run, Outcome.RELEASED, session_id=forger.session_id)
    assert list(await bench.report([forged])) == [Receipt.STALE]
    assert session.holds(hex_id(run.task_id), run.token)
    assert session.free("sync") == 9


async def test_another_leases_tokens_in_a_heartbeat_are_only_answered_as_void(bench: Bench) -> None:
    session, link = await bench.worker()
    forger, heard = await bench.worker(tasks=["other"])
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    assert bench.engine.heartbeats.beat(forger, 1, [run.token], 2**53) == []
    while not heard.acks:
        heard.pushed.clear()
        await heard.pushed.wait()
    assert heard.acks == [(1, [LeaseRef(TaskId(""), run.token)], [])]
    assert session.holds(hex_id(run.task_id), run.token)
    assert list(await bench.report([end_of(run, Outcome.COMPLETED)])) == [Receipt.ACCEPTED]


async def test_another_leases_tokens_in_a_hello_adopt_nothing(bench: Bench) -> None:
    session, link = await bench.worker()
    forger, _ = await bench.worker(tasks=["other"])
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    claimed = LeaseRef(run.task_id, run.token)
    hello: Introduction = replace(introduced(10, ["other"]), held=[claimed], received_through=2**53)
    resumption = await bench.engine.sessions.resume(forger.session_id, forger.secret, hello, Link())
    assert (resumption.adopted, resumption.orphans, resumption.revoked) == ([], [], [claimed])
    assert session.holds(hex_id(run.task_id), run.token)


async def test_tokens_of_one_assign_tell_nothing_of_each_other(bench: Bench) -> None:
    """64 random bits for each lease, by an assign and by a hand-off."""
    await bench.submit([new_task() for _ in range(200)])
    _, link = await bench.worker(capacity=400)
    await link.until_runs(200)
    await bench.submit([new_task() for _ in range(200)])
    tokens = sorted(run.token for run in await link.until_runs(400))
    assert min(later - earlier for earlier, later in itertools.pairwise(tokens)) > _FAR


async def test_a_worker_whose_time_is_over_resumes_and_reports_what_it_ran(bench: Bench) -> None:
    """After an outage: nobody has swept the session yet, so its leases stand, and the results count."""
    session, link = await bench.worker()
    await bench.submit([new_task(), new_task()])
    held, unheld = await link.until_runs(2)
    await bench.database.execute("update worker_session set expires_at = now() - interval '1 second'")
    hello = replace(introduced(10, ["work"]), held=[LeaseRef(held.task_id, held.token)])
    resumption = await bench.engine.sessions.resume(session.session_id, session.secret, hello, Link())
    assert [ref.token for ref in resumption.adopted] == [held.token]
    assert [ref.token for ref in resumption.unreceived] == [unheld.token]
    reported = end_of(held, Outcome.COMPLETED, session_id=resumption.session.session_id)
    assert list(await bench.report([reported])) == [Receipt.ACCEPTED]


async def test_a_worker_whose_token_is_not_for_a_queue_goes_on_with_none_of_its_leases(bench: Bench) -> None:
    """It has the session's secret, and now another token. The run is lost, and runs again for others."""
    session, link = await bench.worker()
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    claimed = LeaseRef(run.task_id, run.token)
    hello: Introduction = replace(introduced(10, ["work"]), held=[claimed], received_through=2**53)
    narrow = replace(hello, covers=lambda queue: queue == "another")
    resumption = await bench.engine.sessions.resume(session.session_id, session.secret, narrow, Link())
    assert (resumption.adopted, resumption.orphans, resumption.revoked) == ([], [claimed], [claimed])
