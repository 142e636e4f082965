"""The list of tasks, narrowed by one line."""

import time
import uuid
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.dashboard.pages.action import tasks_text
from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.values import query
from hyrex.filterline import FilterLineError, parse
from hyrex.transport.filters import task_filter
from hyrex.v1 import task_service_pb2 as tasks

ROWS: Final = 50
NEWER_AT_MOST: Final = 100
COUNTED: Final = 1000
LONGEST_FILTER: Final = 2000


async def task_list(visit: Visit) -> Page:
    """One page of tasks. Raises: CallFailed."""
    line = line_of(visit)
    values: dict[str, object] = {"line": line, "problem": "", "tasks": [], "next": "", "newer": 0}
    values["count_words"] = ""
    try:
        found = task_filter(parse(line))
    except FilterLineError as error:
        values |= {"problem": str(error), "first": True, "looked_back_to": None}
        return Page("tasks.html", "Tasks", "tasks", values)
    bound, token = _until(visit), visit.query.get("page", "")
    request = tasks.ListTasksRequest(page_size=ROWS, page_token=token, filter=found)
    if bound:
        request.created_before.FromMilliseconds(bound)
    listed = await visit.calls.read("tasks", "ListTasks", request)
    until, after = bound or _after_newest(listed), listed.next_page_token
    values |= {
        "tasks": listed.tasks,
        "first": not token,
        "looked_back_to": listed if listed.HasField("looked_back_to") else None,
        "next": "/tasks" + query(filter=line, until=bound or "", page=after) if after else "",
        "count_words": await _count_words(visit, found, listed, bool(token)) if line else "",
        "newer": await _newer(visit, found, bound) if bound and not token else 0,
    }
    live_until = (bound or "") if token else until
    here = "/tasks" + query(filter=line, until=live_until, page=token)
    return Page("tasks.html", "Tasks", "tasks", values, live=here)


def line_of(visit: Visit) -> str:
    """The filter line of the address."""
    return visit.query.get("filter", "")[:LONGEST_FILTER].strip()


def _until(visit: Visit) -> int:
    given = visit.query.get("until", "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) <= 13 else 0


def _after_newest(listed: tasks.ListTasksResponse) -> int:
    """The millisecond after the id of the newest task, so that the page stays as it is."""
    if not listed.tasks:
        return int(time.time() * 1000)
    return (uuid.UUID(listed.tasks[0].task_id).int >> 80) + 1


async def _count_words(
    visit: Visit, found: tasks.TaskFilter, listed: tasks.ListTasksResponse, later_page: bool
) -> str:
    """How many tasks match, as far as that is known: brokers count up to a thousand, and the page does not
    wait for it."""
    if not listed.next_page_token and not later_page:
        return f"{tasks_text(len(listed.tasks))} match{'es' if len(listed.tasks) == 1 else ''}"
    request = tasks.CountTasksRequest(filter=found, most=COUNTED)
    answer = await visit.cluster.soon(visit.token, "tasks", "CountTasks", request)
    if answer is None or answer.count <= 1:
        return ""
    return f"{'more than ' if answer.more else ''}{tasks_text(answer.count)} match"


async def _newer(visit: Visit, found: tasks.TaskFilter, until: int) -> int:
    """How many tasks came since, up to a hundred."""
    after = Timestamp()
    after.FromMilliseconds(until)
    request = tasks.ListTasksRequest(
        page_size=NEWER_AT_MOST, filter=found, created_after=after, messages=tasks.LISTED_MESSAGES_NONE
    )
    listed = await visit.calls.read("tasks", "ListTasks", request)
    return len(listed.tasks)
