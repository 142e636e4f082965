"""What a child says of a run, whatever it is, costs no other run its report."""

import math
from typing import Any
from uuid import UUID

import pytest

from hyrex.worker.shared.options import WorkerOptions
from hyrex.worker.shared.outcome import (
    Cancelled,
    Completed,
    Ending,
    ErrorInfo,
    Failed,
    Lost,
    Outcome,
    Released,
    TimedOut,
)
from hyrex.worker.stream import convert
from hyrex.worker.stream.reports import ReportQueue

ERROR = ErrorInfo("ValueError", "no luck")
ODD = ErrorInfo("ValueError", "\ud800")


def told(*endings: Ending) -> Any:
    """The report of these endings."""
    reports = ReportQueue(lambda: None)
    for ending in endings:
        reports.add(str(UUID(int=ending.token)), ending)
    following = reports.next_report(1000, 1 << 20)
    assert following is not None
    return convert.report(*following).report


@pytest.mark.parametrize("delay_s", [math.nan, math.inf, -math.inf, -1.0, 1e30, 1e300])
@pytest.mark.parametrize("kind", [lambda s: Failed(ERROR, True, s), lambda s: TimedOut(ERROR, s)])
def test_delay_that_no_frame_can_carry_is_left_to_the_broker(kind: Any, delay_s: float) -> None:
    run = told(Ending(1, kind(delay_s))).runs[0]
    outcome = getattr(run, run.WhichOneof("outcome"))
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "no luck")
    assert not outcome.HasField("retry_delay")


@pytest.mark.parametrize(
    ("outcome", "elapsed_ns"),
    [
        (Completed("text"), 1),  # type: ignore[arg-type]
        (Failed(ODD, True), 1),
        (Failed(ERROR, True, "soon"), 1),  # type: ignore[arg-type]
        (TimedOut(ODD), 1),
        (Cancelled("\udfff"), None),
        (Released(False, "\udfff"), None),
        (Lost("\udfff", True), None),
    ],
)
def test_report_that_no_frame_can_carry_fails_its_run_alone(outcome: Outcome, elapsed_ns: int | None) -> None:
    report = told(
        Ending(1, Completed(b"1"), 5), Ending(2, outcome, elapsed_ns), Ending(3, Completed(b"3"), 5)
    )
    (good,) = report.completed
    assert (list(good.tokens), list(good.results)) == ([1, 3], [b"1", b"3"])
    (bad,) = report.runs
    assert (bad.task_id, bad.token) == (str(UUID(int=2)), 2)
    assert bad.failed.error.type == "Unreportable"
    assert f"the run ended as {type(outcome).__name__}" in bad.failed.error.message
    assert bad.failed.retryable
    assert report.SerializeToString()


@pytest.mark.parametrize("elapsed_ns", [-1, -(10**12), 10**40])
def test_time_that_no_clock_can_have_measured_is_left_out(elapsed_ns: int) -> None:
    report = told(Ending(1, Completed(b"1"), elapsed_ns), Ending(2, Cancelled(""), elapsed_ns))
    assert [list(group.elapsed_us) for group in report.completed] == [[0]]
    assert not report.runs[0].HasField("elapsed")


@pytest.mark.parametrize("field", [{"name": "\udcff"}, {"queues": ("a", "\udcff*")}])
def test_worker_whose_name_no_broker_could_be_told_is_refused(field: Any) -> None:
    with pytest.raises(ValueError, match="is not valid Unicode"):
        WorkerOptions(target="app", **field)
