"""Which brokers `hy.schedules` asks, and what it makes of an answer that was lost."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from hyrex import CallRejected, HyrexRegistry
from hyrex.client import close_client
from hyrex.v1 import schedule_service_pb2 as pb
from hyrex.v1 import schedule_service_pb2_grpc
from tests.support.scripted_tasks import refuse
from tests.unit.sdk.sent_tasks import add

hy = HyrexRegistry()
video = add.with_config(queue="video-hd")


class ScriptedSchedules(schedule_service_pb2_grpc.ScheduleServiceServicer):
    """The names that it has; `lost` answers of deletes do not arrive."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.called: list[str] = []
        self.lost = 0

    def PutSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.names.append(request.definition.name)
        return pb.PutScheduleResponse(schedule=pb.Schedule(definition=request.definition))

    def GetSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        refuse(context, grpc.StatusCode.UNIMPLEMENTED)

    def ListSchedules(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.called.append("list")
        return pb.ListSchedulesResponse()

    def PauseSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.called.append("resume" if request.resume else "pause")
        return pb.PauseScheduleResponse()

    def TriggerSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.called.append("trigger")
        return pb.TriggerScheduleResponse(task_id=request.task_id)

    def BackfillSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.called.append("backfill")
        return pb.BackfillScheduleResponse()

    def DeleteSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.called.append("delete")
        if request.name not in self.names:
            refuse(context, grpc.StatusCode.NOT_FOUND, "PEER_NOT_FOUND")
        self.names.remove(request.name)
        if self.lost:
            self.lost -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return pb.DeleteScheduleResponse()


def _stop(server: grpc.Server) -> None:
    server.stop(None).wait(60)


Pair = tuple[ScriptedSchedules, ScriptedSchedules]


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Two cells: one for queues that begin with video, and one for the others."""
    with ExitStack() as stack:
        cells = ScriptedSchedules(), ScriptedSchedules()
        urls: list[str] = []
        for each in cells:
            server = grpc.server(stack.enter_context(ThreadPoolExecutor(4)))
            schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server(each, server)
            urls.append(f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            server.start()
            stack.callback(_stop, server)
        monkeypatch.setenv("HYREX_CELLS", f"video*={urls[0]};*={urls[1]}")
        monkeypatch.setenv("HYREX_BROKER_URL", "grpc://127.0.0.1:1")
        monkeypatch.setenv("HYREX_SEND_TIMEOUT", "60")
        monkeypatch.delenv("HYREX_TOKEN", raising=False)
        stack.callback(close_client)
        yield cells


def test_a_schedule_is_put_into_the_cell_of_its_tasks_queue(pair: Pair) -> None:
    hy.schedules.put("cut", video.call(1), "@daily")
    asyncio.run(hy.schedules.put_async("report", add.call(1), "@daily"))
    assert [each.names for each in pair] == [["cut"], ["report"]]


def test_calls_by_name_ask_the_cell_of_the_queue_that_is_given(pair: Pair) -> None:
    schedules, start = hy.schedules, datetime(2026, 1, 1, tzinfo=UTC)
    pair[0].names = ["cut"]
    schedules.list(queue="video-hd")
    schedules.pause("cut", queue="video-hd")
    schedules.resume("cut", queue="video-hd")
    schedules.trigger("cut", queue="video-hd")
    schedules.backfill("cut", start, queue="video-hd")
    asyncio.run(schedules.delete_async("cut", queue="video-hd"))
    called = ["list", "pause", "resume", "trigger", "backfill", "delete"]
    assert [each.called for each in pair] == [called, []]


def test_a_call_by_name_alone_is_refused_where_there_are_several_cells(pair: Pair) -> None:
    with pytest.raises(ValueError, match=r"HYREX_CELLS has 2 cells.*schedules\.pause\(\).*with queue="):
        hy.schedules.pause("cut")
    with pytest.raises(ValueError, match=r"schedules\.list\(\).*grpc://127.*\(video\*\)"):
        asyncio.run(hy.schedules.list_async())
    with pytest.raises(TypeError, match="queue must be a str"):
        hy.schedules.pause("cut", queue=1)  # type: ignore[arg-type]
    assert [each.called for each in pair] == [[], []]


def test_a_delete_whose_answer_was_lost_is_done_when_its_repeat_finds_nothing(pair: Pair) -> None:
    pair[1].names, pair[1].lost = ["report"], 1
    hy.schedules.delete("report", queue="mail")
    assert pair[1].called == ["delete", "delete"]
    with pytest.raises(CallRejected) as caught:
        hy.schedules.delete("report", queue="mail")
    assert caught.value.reason == "PEER_NOT_FOUND"
