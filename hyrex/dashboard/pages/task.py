"""One task: where it stands, and everything that is known of it."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import grpc

from hyrex.dashboard.pages.machines import valid_id
from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.json_view import LOOKS
from hyrex.dashboard.render.values import BAD, FINAL, query
from hyrex.runtime.content import is_json
from hyrex.runtime.shell import shell_word
from hyrex.transport.errors import CallFailed
from hyrex.transport.failures import line_of_kind, why_no_line
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as tasks

TABS: Final = ("runs", "log", "trace", "payload", "result", "tree", "details")
TREE_AT_MOST: Final = 500


@dataclass(frozen=True, slots=True)
class Node:
    """A task in its tree. `depth` 0 is the root."""

    task: task_pb2.Task
    depth: int


async def one_task(visit: Visit) -> Page:
    """A task. Raises: Missing, CallFailed."""
    wanted = valid_id(visit.wanted("id"))
    response = await visit.calls.read("tasks", "GetTask", tasks.GetTaskRequest(task_id=wanted))
    task: task_pb2.Task = response.task
    tab = visit.query.get("tab", "runs")
    tab = tab if tab in TABS else "runs"
    values = {
        "task": task,
        "tab": tab,
        "look": look_of(visit),
        "tabs": TABS,
        "final": task.status in FINAL,
        "why": await why_it_waits(visit, task),
        "bad": task.status in BAD,
        "kind": line_of_kind(task) if task.status in BAD else "",
        "no_kind": why_no_line(task) if task.status in BAD else "",
        "last_error": _last_error(task),
        "result": _result(task),
        "command": command_of(task),
        "code": code_of(task),
        "nodes": await _tree(visit, task) if tab == "tree" else [],
        "tree_cut": TREE_AT_MOST,
    }
    return Page(
        "task.html", task.name, "tasks", values, live="/task" + query(id=wanted, tab=tab, look=look_of(visit))
    )


def look_of(visit: Visit) -> str:
    """How a payload or result is shown."""
    look = visit.query.get("look", LOOKS[0])
    return look if look in LOOKS else LOOKS[0]


async def why_it_waits(visit: Visit, task: task_pb2.Task) -> admin.WhyResponse | None:
    """Why it does not run, where it waits. Raises: CallFailed."""
    if task.status in FINAL or task.status == task_pb2.TASK_STATUS_RUNNING:
        return None
    request = admin.WhyRequest(task_id=task.task_id)
    found: admin.WhyResponse = await visit.calls.read("admin", "Why", request)
    return found


def command_of(task: task_pb2.Task) -> str:
    """The command that sends the same task again."""
    text = _json_text(task)
    if text is None:
        return ""
    words, queue = [task.name, text], ["-q", shell_word(task.queue)]
    # Behind -- nothing is an option: a task's name must not lead the command, with its token, elsewhere.
    options = [*queue, "--"] if any(word.startswith("-") for word in words) else []
    parts = ["hyrex task send", *options, *map(shell_word, words), *([] if options else queue)]
    return " ".join(parts)


def code_of(task: task_pb2.Task) -> str:
    """The line of Python that sends the same task again."""
    text = _json_text(task)
    name = task.name.rpartition(".")[2]
    if text is None or not name.isidentifier():
        return ""
    arguments = json.loads(text) if text else {}
    if not isinstance(arguments, dict) or not all(str(key).isidentifier() for key in arguments):
        return ""
    return f"{name}.send({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _json_text(task: task_pb2.Task) -> str | None:
    """The payload as text, None where it is hidden, no JSON, or too long to be copied."""
    if task.hidden or not is_json(task.content_type, task.codec) or len(task.payload) > 4096:
        return None
    try:
        text = task.payload.decode()
        json.loads(text or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return text or "{}"


def _no_number(word: str) -> float:
    raise ValueError(word)


def _last_error(task: task_pb2.Task) -> task_pb2.TaskRun | None:
    return next((run for run in reversed(task.runs) if run.HasField("error")), None)


def _result(task: task_pb2.Task) -> task_pb2.TaskRun | None:
    return next((run for run in reversed(task.runs) if run.status == task_pb2.RUN_STATUS_COMPLETED), None)


async def _tree(visit: Visit, task: task_pb2.Task) -> list[Node]:
    root = task.root_id or task.task_id
    request = tasks.ListTasksRequest(
        page_size=TREE_AT_MOST, root_id=root, messages=tasks.LISTED_MESSAGES_NONE
    )
    listed = await visit.calls.read("tasks", "ListTasks", request)
    return list(ordered([*listed.tasks, *await _root(visit, task, root)]))


async def _root(visit: Visit, task: task_pb2.Task, root: str) -> list[task_pb2.Task]:
    """The root, which lists of its tree leave out; nothing where it is gone or not to be seen."""
    if root == task.task_id:
        return [task]
    try:
        response = await visit.calls.read("tasks", "GetTask", tasks.GetTaskRequest(task_id=root))
    except CallFailed as error:
        if error.failure.code is grpc.StatusCode.NOT_FOUND:
            return []
        raise
    return [response.task]


def ordered(found: Iterator[task_pb2.Task] | list[task_pb2.Task]) -> Iterator[Node]:
    """Tasks below their parents, oldest first; without its parent a task begins a tree of its own."""
    by_id: Mapping[str, task_pb2.Task] = {task.task_id: task for task in found}
    children: dict[str, list[str]] = defaultdict(list)
    for task_id in sorted(by_id):
        parent = by_id[task_id].parent_id
        children[parent if parent in by_id and parent != task_id else ""].append(task_id)
    waiting = [(task_id, 0) for task_id in reversed(children[""])]
    while waiting:
        task_id, depth = waiting.pop()
        yield Node(by_id[task_id], depth)
        waiting += [(child, depth + 1) for child in reversed(children[task_id])]
