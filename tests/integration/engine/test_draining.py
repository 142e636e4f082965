"""Sessions that are to end: an operator's wish and a worker's own word outlive the stream they came on."""

from hyrex_broker.storage.peers import PeerStore
from tests.integration.engine.bench import Bench, Link
from tests.integration.engine.test_liveness import until_acked
from tests.integration.storage.stage import new_task


async def nothing_comes(bench: Bench, link: Link) -> bool:
    """Return True if a task goes to another worker instead, though this one would be asked first."""
    _, other = await bench.worker(capacity=1)
    await bench.submit([new_task()])
    await other.until_runs(1)
    return not link.runs


async def test_a_session_that_drained_itself_is_resumed_without_work(bench: Bench) -> None:
    session, link = await bench.worker()
    bench.engine.sessions.drain_itself(session)
    bench.engine.heartbeats.beat(session, 1, [], 0)
    await until_acked(link)
    resumption, resumed = await bench.resumed(session)
    assert await nothing_comes(bench, resumed)
    assert not resumption.to_leave
    bench.engine.heartbeats.beat(resumption.session, 2, [], 0)
    await until_acked(resumed)
    assert (link.left, resumed.left) == (0, 0)


async def test_a_session_that_an_operator_drained_is_resumed_without_work_and_told_to_leave(
    bench: Bench,
) -> None:
    session, _ = await bench.worker()
    await PeerStore(bench.database).drain(session.session_id)
    resumption, resumed = await bench.resumed(session)
    assert resumption.to_leave
    assert await nothing_comes(bench, resumed)


async def test_an_operators_wish_is_told_once_to_a_worker_that_works(bench: Bench) -> None:
    session, link = await bench.worker()
    await PeerStore(bench.database).drain(session.session_id)
    for sequence in (1, 2):
        bench.engine.heartbeats.beat(session, sequence, [], 0)
        await until_acked(link, sequence)
    assert link.left == 1
