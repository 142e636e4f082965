"""Schedules: all of them, one with its next and last slots, and pausing, resuming and triggering one."""

from types import MappingProxyType
from typing import Final

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.pages.action import Action, Done, Form, Question
from hyrex.dashboard.pages.machines import valid_id
from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.values import query
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import schedule_service_pb2 as pb

LISTED: Final = 200
SLOTS: Final = 30


async def schedules(visit: Visit) -> Page:
    """All schedules by name, page by page. Raises: CallFailed."""
    token = visit.query.get("page", "")
    request = pb.ListSchedulesRequest(page_size=LISTED, page_token=token)
    listed = await visit.calls.read("schedules", "ListSchedules", request)
    values = {"schedules": listed.schedules, "next_page": listed.next_page_token}
    return Page("schedules.html", "Schedules", "schedules", values, live="/schedules" + query(page=token))


async def schedule(visit: Visit) -> Page:
    """One, with its next three and last thirty slots. Raises: Missing, CallFailed."""
    name = visit.wanted("name")
    request = pb.GetScheduleRequest(name=name, slots=SLOTS)
    found = await visit.calls.read("schedules", "GetSchedule", request)
    values = {"schedule": found.schedule, "slots": found.slots}
    return Page("schedule.html", name, "schedules", values, live=_address(name))


async def _ask_pause(visit: Visit) -> Question:
    name = visit.wanted("name")
    sentence = "Nothing is stored at its slots until it is resumed. What it has stored goes on."
    return Question(f"Pause {name}?", sentence, "Pause", _address(name))


async def _pause(visit: Visit, form: Form) -> Done:
    name = visit.wanted("name")
    await visit.calls.act("schedules", "PauseSchedule", pb.PauseScheduleRequest(name=name))
    return Done(f"{name} is paused.", _address(name))


async def _ask_resume(visit: Visit) -> Question:
    name = visit.wanted("name")
    sentence = "It goes on with its next slot. What passed meanwhile is not made up for."
    return Question(f"Resume {name}?", sentence, "Resume", _address(name))


async def _resume(visit: Visit, form: Form) -> Done:
    name = visit.wanted("name")
    await visit.calls.act("schedules", "PauseSchedule", pb.PauseScheduleRequest(name=name, resume=True))
    return Done(f"{name} goes on with its next slot.", _address(name))


async def _ask_trigger(visit: Visit) -> Question:
    name = visit.wanted("name")
    sentence = "One task of it is stored now, beside those of its slots."
    return Question(f"Trigger {name}?", sentence, "Trigger", _address(name), once=new_task_id())


async def _trigger(visit: Visit, form: Form) -> Done:
    name, task_id = visit.wanted("name"), valid_id(form.get("once", ""))
    request = pb.TriggerScheduleRequest(name=name, task_id=task_id)
    await visit.calls.act("schedules", "TriggerSchedule", request)
    return Done(f"A task of {name} is stored.", _address(name))


def _address(name: str) -> str:
    return "/schedule" + query(name=name)


SCHEDULE_ACTIONS: Final = MappingProxyType(
    {
        "/schedule/pause": Action(_ask_pause, _pause, admin.TOKEN_SCOPE_SUBMIT),
        "/schedule/resume": Action(_ask_resume, _resume, admin.TOKEN_SCOPE_SUBMIT),
        "/schedule/trigger": Action(_ask_trigger, _trigger, admin.TOKEN_SCOPE_SUBMIT),
    }
)
