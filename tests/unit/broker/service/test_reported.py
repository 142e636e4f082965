"""What workers report is brought within bounds."""

import pytest

from hyrex.v1 import task_pb2
from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.model import Outcome, SessionId
from hyrex_broker.engine.sessions.session import ServedSession, WorkerProfile
from hyrex_broker.service.reported import ends
from tests.integration.engine.bench import Link

SESSION = ServedSession(SessionId(1), 0, b"", WorkerProfile(("*",), {}, {}), {}, Link())
TASK = "0198a0c4-0000-7000-8000-00000000000a"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("ValueError", "ValueError"),
        ("E" * 300, "E" * 255),
        ("\0" * 200, "\\0" * 127 + "\\"),
        ("é" * 200, "é" * 127),
    ],
)
def test_the_type_of_an_error_is_cut_to_what_a_filter_can_ask_for(told: str, kept: str) -> None:
    error = task_pb2.RunError(type=told, message="m" * 1000)
    for report in (
        wire.RunReport(task_id=TASK, token=1, failed=wire.Failed(error=error)),
        wire.RunReport(task_id=TASK, token=1, timed_out=wire.TimedOut(error=error)),
    ):
        _, (end,) = ends(wire.Report(runs=[report]), SESSION, 1000)
        assert end.error_type == kept
        assert end.error_message == "m" * 1000


def test_an_end_of_a_later_version_is_a_lost_run_and_the_others_are_recorded() -> None:
    """Not understood, it would be dropped; were the whole report refused, its worker would repeat it."""
    later = wire.RunReport(task_id=TASK, token=1)
    later.MergeFromString(bytes([77 << 3 & 0x7F | 0x80 | 2, 77 >> 4, 0]))
    known = wire.RunReport(task_id=TASK, token=2, cancelled=wire.Cancelled())
    _, (lost, cancelled) = ends(wire.Report(runs=[later, known]), SESSION, 1000)
    assert (lost.outcome, lost.token) == (Outcome.LOST, 1)
    assert "field 77" in (lost.reason or "")
    assert (cancelled.outcome, cancelled.token) == (Outcome.CANCELLED, 2)


@pytest.mark.parametrize("number", [0, 100])
def test_a_run_that_does_not_say_how_it_ended_is_refused(number: int) -> None:
    """Also with a field that tells nothing of that (from 100 on)."""
    silent = wire.RunReport(task_id=TASK, token=1)
    if number:
        silent.MergeFromString(bytes([number << 3 & 0x7F | 0x80 | 2, number >> 4, 0]))
    with pytest.raises(InvalidField, match="how it ended"):
        ends(wire.Report(runs=[silent]), SESSION, 1000)
