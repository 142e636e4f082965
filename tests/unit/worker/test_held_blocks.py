"""Blocks of leases in a pool: cut for children, parted for one run, and put together again; none is lost."""

from uuid import UUID

import msgspec
import pytest

from hyrex.worker.pool.held_block import Held, HeldBlock, parted, together
from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.pool.waiting_runs import WaitingRuns
from hyrex.worker.shared.child_messages import Finished, decode_from_child
from hyrex.worker.shared.outcome import Cancelled, Completed, Ending, ErrorInfo, StopCause, TimedOut
from hyrex.worker.shared.runs import RunBlock, RunTerms
from hyrex.worker.stream.reports import ReportQueue, tokens_of


def block(tokens: range, *, alone: bool = False) -> RunBlock:
    """Runs with these tokens; each column tells which run its value belongs to."""
    ids = b"".join([UUID(int=token).bytes for token in tokens])
    numbers = list(tokens)
    return RunBlock(
        RunTerms("work", "default", alone=alone), numbers, ids, [b"%d" % token for token in tokens],
        numbers, numbers, ids, ids, numbers, [{"n": str(token)} for token in tokens],
        b"".join([bytes([token]) * 26 for token in tokens]),
    )  # fmt: skip


def seen(entries: list[Held]) -> list[int]:
    """The tokens, in order, of runs whose columns all belong to them."""
    runs = []
    for held in entries:
        leases = [held] if isinstance(held, HeldLease) else held.leases()
        runs += [lease.run for lease in leases]
    for run in runs:
        number, task_id = run.token, str(UUID(int=run.token))
        assert (run.task_id, run.parent_id, run.root_id) == (task_id, task_id, task_id)
        assert (run.run_number, run.attempt_number, run.submitted_ns) == (number, number, number * 1000)
        assert (run.payload, run.headers) == (b"%d" % number, {"n": str(number)})
        assert run.trace_context == bytes([number]) * 26
    return [run.token for run in runs]


def waiting(*blocks: RunBlock) -> WaitingRuns:
    """They wait in a pool."""
    runs = WaitingRuns()
    for one in blocks:
        runs.add(HeldBlock(one, "sync"))
    return runs


def test_block_is_cut_where_a_child_has_no_more_room() -> None:
    runs = waiting(block(range(1, 6)), block(range(6, 9)))
    assert seen(runs.take_first(3)) == [1, 2, 3]
    assert seen(runs.take_first(4)) == [4, 5, 6, 7]
    assert runs.backlog == 1
    assert seen(runs.take_first(1)) == [8]


def test_run_that_needs_a_lease_of_its_own_keeps_its_place() -> None:
    for token in (1, 3, 5):
        runs = waiting(block(range(1, 6)))
        lease = runs.lease(token)
        assert lease is not None
        assert runs.lease(token) is lease
        assert runs.backlog == 5
        runs.forget(lease)
        assert seen(runs.take_first(4)) == [n for n in range(1, 6) if n != token]


def test_runs_that_come_back_go_before_the_others_in_their_order() -> None:
    runs = waiting(block(range(1, 7)))
    given = HeldBlock(block(range(10, 16)), "sync")
    own = HeldBlock(block(range(20, 22)), "sync").lease(20)
    back: list[tuple[int, Held]] = [(11, given), (13, given), (20, own), (14, given)]
    runs.put_back(together(back))
    assert runs.backlog == 10
    assert seen(runs.take_first(10)) == [11, 13, 20, 14, 1, 2, 3, 4, 5, 6]


def test_block_that_must_run_alone_waits_run_by_run() -> None:
    runs = waiting(block(range(1, 4), alone=True), block(range(4, 6)))
    assert [held.run.token for held in runs.alone] == [1, 2, 3]
    assert (runs.backlog, len(runs)) == (2, 5)


def test_runs_that_waited_for_too_long_are_taken_out_of_their_blocks() -> None:
    runs = waiting(block(range(1, 4)), block(range(4, 6), alone=True))
    assert runs.take(3600) == []
    assert [held.run.token for held in runs.take(0.0)] == [1, 2, 3, 4, 5]
    assert (runs.backlog, len(runs)) == (0, 0)


def test_report_holds_no_more_runs_and_bytes_than_it_may_and_each_run_once() -> None:
    reports = ReportQueue(lambda: None)
    tokens = list(range(2500))
    ids = [UUID(int=token).bytes for token in tokens]
    reports.add_finished(ids, Finished(tokens, tokens, [b"x" * 1000] * 2500))
    reports.add(str(UUID(int=2500)), Ending(2500, Cancelled("no")))
    assert len(reports) == 2501
    told: list[int] = []
    while (report := reports.next_report(700, 300_000)) is not None:
        report_id, parts = report
        size = sum(part.size_bytes for part in parts)
        assert size <= 300_000
        assert sum(map(len, parts)) <= 700
        told += tokens_of(parts)
        assert list(tokens_of(reports.acknowledge(report_id))) == list(tokens_of(parts))
    assert told == [*tokens, 2500]
    assert len(reports) == 0


def test_result_of_a_run_that_is_not_held_is_nobodys() -> None:
    held = HeldBlock(block(range(1, 4)), "sync")
    lease = held.lease(2)
    told = Finished([1, 2, 9], [10, 20, 90], [b"1", b"2", b"9"])
    plain, leases = parted(told, [held, lease, None])
    assert plain == Finished([1], [10], [b"1"])
    assert leases == [(lease, Ending(2, Completed(b"2"), 20_000))]


def test_child_whose_columns_do_not_fit_each_other_is_not_understood() -> None:
    made_up = [["finished", [1, 2], [5], [b"1", b"2"]]]
    with pytest.raises(msgspec.ValidationError, match="different lengths"):
        decode_from_child(msgspec.msgpack.encode(made_up))


def test_result_larger_than_a_frame_goes_alone() -> None:
    reports = ReportQueue(lambda: None)
    results = [b"x" * 10, b"x" * 5000, b"x" * 10]
    reports.add_finished([UUID(int=n).bytes for n in range(3)], Finished([0, 1, 2], [1, 1, 1], results))
    sizes = []
    while (report := reports.next_report(1000, 3000)) is not None:
        sizes.append(sum(map(len, report[1])))
        reports.acknowledge(report[0])
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("revoked", [False, True])
def test_a_lease_that_is_there_for_its_error_handler_ends_with_a_stop_only_if_nobody_is_told(
    revoked: bool,
) -> None:
    (held,) = HeldBlock(block(range(1, 2)), "sync").leases()
    held.stop, error = StopCause.TIMEOUT, ErrorInfo("TaskTimeout", "")
    assert held.ending_unbegun() is not None
    held.leave_to_handler(Ending(1, TimedOut(error)), error)
    held.revoked = revoked
    assert (held.ending_unbegun() is not None) is revoked
