"""Schedules on the dashboard: what is shown of them, and what pausing and triggering does."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.render.values import query
from hyrex.v1 import schedule_service_pb2 as pb
from hyrex.v1 import task_pb2
from hyrex.v1.schedule_pb2 import ScheduleDefinition
from hyrex.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from tests.dashboard.shop import WITHIN_S, Reader, Shop, unique

HOSTILE = '"><script>alert(1)</script>\u202e ../?a=b&c#d'


@pytest.fixture
def schedules(shop: Shop) -> Iterator[Any]:
    with grpc.insecure_channel(shop.url.removeprefix("grpc://")) as channel:
        yield ScheduleServiceStub(channel)


def made(schedules: Any, name: str) -> str:
    task = task_pb2.NewTask(name="greet", queue="nobody")
    definition = ScheduleDefinition(name=name, cron="0 3 * * *", timezone="Europe/Berlin", task=task)
    schedules.PutSchedule(pb.PutScheduleRequest(definition=definition), timeout=WITHIN_S)
    return name


def state(schedules: Any, name: str) -> pb.GetScheduleResponse:
    answer: pb.GetScheduleResponse = schedules.GetSchedule(pb.GetScheduleRequest(name=name), timeout=WITHIN_S)
    return answer


def test_a_schedule_is_shown_paused_resumed_and_triggered(schedules: Any, reader: Reader) -> None:
    name = made(schedules, unique("nightly & more/../x?y=1#"))
    address = "/schedule" + query(name=name)
    assert f'href="{address}"' in reader.text("/schedules")
    page = reader.text(address)
    assert "0 3 * * *" in page
    assert page.count("<li><time") == 3
    assert reader.act("/schedule/pause" + query(name=name)) == f"{name} is paused."
    assert state(schedules, name).schedule.paused
    assert "None: it is paused." in reader.text(address)
    assert reader.act("/schedule/resume" + query(name=name)) == f"{name} goes on with its next slot."
    assert not state(schedules, name).schedule.paused
    once = new_task_id()
    for _ in range(2):  # a form that is sent twice stores one
        said = reader.act("/schedule/trigger" + query(name=name), once=once)
        assert said == f"A task of {name} is stored."
    assert [slot.task_id for slot in state(schedules, name).slots] == [once]
    page = reader.text(address)
    assert f'href="/task?id={once}"' in page
    assert "triggered" in page


def test_a_name_of_a_schedule_is_text_wherever_it_is_shown(schedules: Any, reader: Reader) -> None:
    name = made(schedules, HOSTILE)
    actions = ("pause", "resume", "trigger")
    pages = [reader.text("/schedules"), reader.text("/schedule", name=name)]
    pages += [reader.text(f"/schedule/{action}" + query(name=name)) for action in actions]
    for page in pages:
        assert "<script>alert" not in page
        assert "\u202e" not in page
    assert reader.get("/schedule", name="nobody").status_code == 404
