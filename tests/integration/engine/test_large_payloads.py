"""Payloads that come apart from their assignment are read in portions, and hold up nobody else."""

import asyncio
from collections.abc import Sequence

import pytest

from hyrex_broker.domain import ids
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import Outcome, RunEnd
from hyrex_broker.engine.dispatch import large_payloads as deliveries
from hyrex_broker.storage.assign import AssignStore
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import new_task
from tests.support.assigned import AssignedRun

LARGE = b"x" * 100_000


@pytest.fixture(autouse=True)
def by_assign_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is handed off brings its payload along."""
    monkeypatch.setattr(bench.engine.dispatcher, "reserve_slots", lambda counts: [])


class Payloads:
    """The statement that reads payloads: what it was asked for, and when it may answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()
        self.most = 1000
        monkeypatch.setattr(AssignStore, "payloads", self._patched(AssignStore.payloads))

    def _patched(self, real: object) -> object:
        async def payloads(store: AssignStore, task_ids: Sequence[HexId]) -> object:
            self.sizes.append(len(task_ids))
            self.asked.set()
            await self.may_answer.wait()
            if len(task_ids) > self.most:
                raise StorageUnavailable("too much", timed_out=True)
            return await real(store, task_ids)  # type: ignore[operator]

        return payloads


def check(runs: Sequence[AssignedRun], count: int) -> None:
    assert len({run.task_id for run in runs}) == count
    assert {run.payload for run in runs} == {LARGE}


async def test_payloads_are_read_in_slices_and_only_the_last_frame_is_a_receipt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "SLICE_BYTES", 250_000)
    payloads = Payloads(monkeypatch)
    session, link = await bench.worker()
    await bench.submit([new_task(payload=LARGE) for _ in range(5)])
    runs = await link.until_runs(5)
    check(runs, 5)
    assert payloads.sizes == [2, 2, 1]
    (sequence,) = {run.sequence for run in runs}
    assert [receipt for receipt, _ in link.frames] == [sequence - 1, sequence - 1, sequence]
    assert not session.trailing


async def test_a_payload_larger_than_a_slice_comes_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "SLICE_BYTES", 1000)
    payloads = Payloads(monkeypatch)
    _, link = await bench.worker()
    await bench.submit([new_task(payload=LARGE) for _ in range(3)])
    check(await link.until_runs(3), 3)
    assert payloads.sizes == [1, 1, 1]


async def test_payloads_that_take_too_long_together_are_read_in_smaller_portions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "SLICE_BYTES", 800_000)
    payloads = Payloads(monkeypatch)
    payloads.most = 3
    _, link = await bench.worker()
    await bench.submit([new_task(payload=LARGE) for _ in range(8)])
    check(await link.until_runs(8), 8)
    assert payloads.sizes == [8, 4, 2, 2, 2, 2]


async def test_a_session_whose_payloads_do_not_come_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    payloads = Payloads(monkeypatch)
    payloads.may_answer.clear()
    (_, slow), (_, link) = [await bench.worker(tasks=[name]) for name in ("work", "other")]
    await bench.submit([new_task(payload=LARGE)])
    await asyncio.wait_for(payloads.asked.wait(), 60)
    await bench.submit([new_task(name="other") for _ in range(3)])
    await link.until_runs(3)
    assert not slow.runs
    payloads.may_answer.set()
    check(await slow.until_runs(1), 1)


async def test_a_run_that_has_ended_meanwhile_is_not_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    payloads = Payloads(monkeypatch)
    payloads.may_answer.clear()
    session, link = await bench.worker()
    await bench.submit([new_task(payload=LARGE), new_task(payload=LARGE)])
    await asyncio.wait_for(payloads.asked.wait(), 60)
    ended, (task_id, _, _) = next(iter(session.leases.items()))
    await bench.engine.reports.report(
        [RunEnd(ids.task_id(task_id), ended, session.session_id, Outcome.CANCELLED)]
    )
    payloads.may_answer.set()
    (sent,) = await link.until_runs(1)
    assert sent.token != ended


async def test_a_worker_that_does_not_read_is_sent_no_more_until_it_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "SLICE_BYTES", 1000)
    payloads = Payloads(monkeypatch)
    payloads.may_answer.clear()
    _, link = await bench.worker()
    await bench.submit([new_task(payload=LARGE) for _ in range(2)])
    await asyncio.wait_for(payloads.asked.wait(), 60)
    link.backlogged = True
    payloads.may_answer.set()
    await link.until_runs(1)
    _, other = await bench.worker(tasks=["other"])
    await bench.submit([new_task(name="other")])
    await other.until_runs(1)
    assert payloads.sizes == [1]
    link.backlogged = False
    check(await link.until_runs(2), 2)
