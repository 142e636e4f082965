"""What workers report is brought within bounds."""

import pytest

from hyrex.v1 import task_pb2
from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain.model import SessionId
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
