"""The list of tasks, narrowed by one line."""

import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.values import TASK_WORDS, query
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as tasks

ROWS: Final = 50
NEWER_AT_MOST: Final = 100
LONGEST_FILTER: Final = 1000
STATUS_BY_WORD: Final = MappingProxyType(
    {word: task_pb2.TaskStatus.ValueType(number) for number, word in TASK_WORDS.items()}
)
AGE: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
UNIT_S: Final = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86400})


class FilterUnusable(Exception):
    """The line cannot be understood; the text names the word and the remedy."""


async def task_list(visit: Visit) -> Page:
    """One page of tasks. Raises: CallFailed."""
    line = visit.query.get("filter", "")[:LONGEST_FILTER].strip()
    values: dict[str, object] = {"line": line, "problem": "", "tasks": [], "next": "", "newer": 0}
    try:
        request = filtered(line)
    except FilterUnusable as error:
        return Page(
            "tasks.html", "Tasks", "tasks", values | {"problem": str(error), "until": 0, "first": True}
        )
    bound = _until(visit)
    token = visit.query.get("page", "")
    if bound:
        request.created_before.CopyFrom(_stamp(bound))
    listed = await visit.calls.read("tasks", "ListTasks", _page_of(request, token))
    until = bound or _after_newest(listed)
    after = listed.next_page_token
    values |= {
        "tasks": listed.tasks,
        "until": until,
        "first": not token,
        "looked_back_to": listed if listed.HasField("looked_back_to") else None,
        "next": "/tasks" + query(filter=line, until=bound or "", page=after) if after else "",
        "newer": await _newer(visit, line, until) if not token else 0,
    }
    here = "/tasks" + query(filter=line, until=bound or "" if token else until, page=token)
    return Page("tasks.html", "Tasks", "tasks", values, live=here)


def filtered(line: str) -> tasks.ListTasksRequest:
    """The request for a line. Raises: FilterUnusable."""
    request = tasks.ListTasksRequest()
    for word in line.split():
        key, colon, value = word.partition(":")
        if not colon or not value:
            raise FilterUnusable(f"{word}: write it as key:value, for instance name:{word}")
        _narrow(request, key, value)
    return request


def _narrow(request: tasks.ListTasksRequest, key: str, value: str) -> None:
    if key == "queue":
        request.queue = value
    elif key == "name":
        request.name = value
    elif key == "status":
        request.statuses.extend(_status(part) for part in value.split(","))
    elif key in ("parent", "root"):
        setattr(request, f"{key}_id", value)
    elif key == "older":
        request.created_before.FromDatetime(_ago(value))
    elif key == "newer":
        request.created_after.FromDatetime(_ago(value))
    else:
        raise FilterUnusable(f"{key}: is none of queue, name, status, parent, root, older, newer")


def _status(word: str) -> task_pb2.TaskStatus.ValueType:
    if word not in STATUS_BY_WORD:
        raise FilterUnusable(f"status:{word}: is none of {', '.join(STATUS_BY_WORD)}")
    return STATUS_BY_WORD[word]


def _ago(text: str) -> datetime:
    found = AGE.fullmatch(text)
    if found is None:
        raise FilterUnusable(f"{text}: write an age as 30s, 5m, 2h or 7d")
    return datetime.now(UTC) - timedelta(seconds=int(found[1]) * UNIT_S[found[2]])


def _page_of(request: tasks.ListTasksRequest, token: str) -> tasks.ListTasksRequest:
    page = tasks.ListTasksRequest(page_size=ROWS, page_token=token)
    page.MergeFrom(request)
    return page


def _until(visit: Visit) -> int:
    given = visit.query.get("until", "")
    return int(given) if given.isdecimal() and len(given) <= 14 else 0


def _after_newest(listed: tasks.ListTasksResponse) -> int:
    """The millisecond after the id of the newest task, so that the page stays as it is."""
    if not listed.tasks:
        return int(time.time() * 1000)
    return (uuid.UUID(listed.tasks[0].task_id).int >> 80) + 1


def _stamp(milliseconds: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(milliseconds)
    return stamp


async def _newer(visit: Visit, line: str, until: int) -> int:
    """How many tasks came since, up to a hundred."""
    if "until" not in visit.query:
        return 0
    request = filtered(line)
    request.page_size = NEWER_AT_MOST
    request.created_after.CopyFrom(_stamp(until))
    listed = await visit.calls.read("tasks", "ListTasks", request)
    return len(listed.tasks)
