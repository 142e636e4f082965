"""Cancel and retry tasks, send one again with other arguments, drain a worker."""

import json
from collections import Counter
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.pages.action import Action, Done, Field, Form, Question, ids_of, reason_of, tasks_text
from hyrex.dashboard.pages.bulk import SENTENCES
from hyrex.dashboard.pages.machines import valid_id
from hyrex.dashboard.pages.page import FormRefused, Visit
from hyrex.dashboard.render.values import query
from hyrex.runtime.content import compact_json, is_json
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as tasks

CANCEL_WORDS: Final = MappingProxyType(
    {
        tasks.CANCEL_OUTCOME_CANCELLED: "cancelled",
        tasks.CANCEL_OUTCOME_REQUESTED: "told to stop",
        tasks.CANCEL_OUTCOME_FINISHED: "had ended already",
        tasks.CANCEL_OUTCOME_NOT_FOUND: "not found",
    }
)
DISMISS_WORDS: Final = MappingProxyType(
    {
        tasks.DISMISS_OUTCOME_DISMISSED: "dismissed",
        tasks.DISMISS_OUTCOME_NOT_DEAD: "did not fail",
        tasks.DISMISS_OUTCOME_NOT_FOUND: "not found",
        tasks.DISMISS_OUTCOME_REFUSED: "refused in an outbox: see there",
    }
)
REFUSED: Final = "Refused"
"""The type of an error that a person gives as a text, as `handle.complete(error=...)` has it."""
COMPLETE_WORDS: Final = MappingProxyType(
    {
        tasks.COMPLETE_OUTCOME_ENDED: "Answered.",
        tasks.COMPLETE_OUTCOME_FINISHED: "It had ended already: nothing was changed.",
        tasks.COMPLETE_OUTCOME_NOT_WAITING: "It waits for no answer now: nothing was changed.",
        tasks.COMPLETE_OUTCOME_NOT_FOUND: "It is gone.",
    }
)
RETRY_WORDS: Final = MappingProxyType(
    {
        tasks.RETRY_OUTCOME_REQUEUED: "queued again",
        tasks.RETRY_OUTCOME_NOT_FINAL: "not ended yet",
        tasks.RETRY_OUTCOME_NOT_FOUND: "not found",
        tasks.RETRY_OUTCOME_EXPIRED: "its time to begin is over: replay it",
        tasks.RETRY_OUTCOME_REFUSED: "refused in an outbox: see there",
    }
)


async def _ask_cancel(visit: Visit) -> Question:
    ids = ids_of(visit)
    sentence = "What waits ends at once; what runs is told to stop. None of them runs again by itself."
    field = Field("reason", "Why", hint="for the record; may be empty")
    return Question(
        f"Cancel {tasks_text(len(ids))}?", sentence, "Cancel", _back(visit, ids), True, "", (field,)
    )


async def _cancel(visit: Visit, form: Form) -> Done:
    ids = ids_of(visit)
    request = tasks.CancelTasksRequest(task_ids=ids, reason=reason_of(form))
    answer = await visit.calls.act("tasks", "CancelTasks", request)
    words = _counted(CANCEL_WORDS.get(result.outcome, "unknown") for result in answer.results)
    return Done(words, _back(visit, ids))


async def _ask_retry(visit: Visit) -> Question:
    ids = ids_of(visit)
    sentence = "Tasks that have ended run once more, with all their retries, under the same ids."
    return Question(f"Retry {tasks_text(len(ids))}?", sentence, "Retry", _back(visit, ids))


async def _retry(visit: Visit, form: Form) -> Done:
    ids = ids_of(visit)
    answer = await visit.calls.act("tasks", "RetryTasks", tasks.RetryTasksRequest(task_ids=ids))
    words = _counted(RETRY_WORDS.get(result.outcome, "unknown") for result in answer.results)
    return Done(words, _back(visit, ids))


async def _ask_dismiss(visit: Visit) -> Question:
    ids = ids_of(visit)
    sentence = SENTENCES[admin.BULK_ACTION_DISMISS]
    return Question(f"Dismiss {tasks_text(len(ids))}?", sentence, "Dismiss", _back(visit, ids))


async def _dismiss(visit: Visit, form: Form) -> Done:
    ids = ids_of(visit)
    answer = await visit.calls.act("tasks", "DismissTasks", tasks.DismissTasksRequest(task_ids=ids))
    words = _counted(DISMISS_WORDS.get(result.outcome, "unknown") for result in answer.results)
    return Done(words, _back(visit, ids))


async def _ask_replay(visit: Visit) -> Question:
    task = await _task(visit)
    if not is_json(task.content_type, task.codec):
        raise FormRefused("its payload is no JSON, so it cannot be edited here")
    try:
        text = task.payload.decode() or "{}"
    except UnicodeDecodeError:
        raise FormRefused("its payload is no JSON, so it cannot be edited here") from None
    field = Field("payload", "Arguments", "json", text, "a JSON object: parameter and value")
    sentence = "A new task with these arguments. It has the name, queue, labels and options of this one."
    return Question(
        f"Send {task.name} again", sentence, "Send", _back(visit, [task.task_id]), fields=(field,)
    )


async def _replay(visit: Visit, form: Form) -> Done:
    task, text = await _task(visit), form.get("payload", "")
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormRefused(f"the arguments are no JSON: {error}") from None
    request = tasks.ReplayTaskRequest(task_id=task.task_id, new_task_id=new_task_id(), payload=text.encode())
    result = (await visit.calls.act("tasks", "ReplayTask", request)).result
    if result.error.reason:
        raise FormRefused(result.error.message)
    return Done("Sent. This is the new task.", "/task" + query(id=result.task_id))


async def _task(visit: Visit) -> task_pb2.Task:
    """The task that is sent again. Raises: Missing, FormRefused, CallFailed."""
    wanted = valid_id(visit.wanted("id"))
    response = await visit.calls.read("tasks", "GetTask", tasks.GetTaskRequest(task_id=wanted))
    found: task_pb2.Task = response.task
    if found.hidden:
        raise FormRefused("your token has no right to payloads, and without its own it would be another task")
    return found


async def _ask_complete(visit: Visit) -> Question:
    wanted = valid_id(visit.wanted("id"))
    sentence = "No worker runs this task: it waits for an answer. The first one counts."
    fields = (
        Field("result", "Result", "json", "true", "it completes with this JSON value"),
        Field("error", "Or an error", hint="it fails with this text instead; else leave it empty"),
        Field("reason", "Why", hint="for the record; may be empty"),
    )
    return Question("Answer it", sentence, "Answer", "/task" + query(id=wanted), fields=fields)


async def _complete(visit: Visit, form: Form) -> Done:
    wanted, text = valid_id(visit.wanted("id")), form.get("result", "")
    request = tasks.CompleteTasksRequest(task_ids=[wanted], reason=reason_of(form))
    if error := form.get("error", "").strip():
        request.error.type, request.error.message = REFUSED, error
    else:
        request.result.result = _result(text)
    outcome = (await visit.calls.act("tasks", "CompleteTasks", request)).results[0].outcome
    bad = outcome != tasks.COMPLETE_OUTCOME_ENDED
    return Done(COMPLETE_WORDS.get(outcome, "Unknown."), "/task" + query(id=wanted), bad=bad)


def _result(text: str) -> bytes:
    """The result that the form says. Raises: FormRefused."""
    try:
        return compact_json(text)
    except ValueError as error:
        raise FormRefused(f"the result is no JSON: {error}") from None


async def _ask_drain(visit: Visit) -> Question:
    wanted = visit.wanted("id")
    sentence = "It takes no new work, finishes what it runs, and leaves. It does not come back by itself."
    return Question("Drain this worker?", sentence, "Drain", "/worker" + query(id=wanted), danger=True)


async def _drain(visit: Visit, form: Form) -> Done:
    wanted = visit.wanted("id")
    await visit.calls.act("admin", "DrainWorker", admin.DrainWorkerRequest(session_id=wanted))
    return Done("The worker is told to drain.", "/workers")


def _counted(words: Iterable[str]) -> str:
    """What became of many: "12 queued again, 1 not found."""
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common()) + "."


def _back(visit: Visit, ids: list[str]) -> str:
    """The list that it was asked from, else the task."""
    line = visit.query.get("list")
    if line is not None:
        return "/tasks" + query(filter=line)
    return "/task" + query(id=ids[0]) if len(ids) == 1 else "/tasks"


TASK_ACTIONS: Final = MappingProxyType(
    {
        "/tasks/cancel": Action(_ask_cancel, _cancel, admin.TOKEN_SCOPE_SUBMIT),
        "/tasks/retry": Action(_ask_retry, _retry, admin.TOKEN_SCOPE_SUBMIT),
        "/tasks/dismiss": Action(_ask_dismiss, _dismiss, admin.TOKEN_SCOPE_SUBMIT),
        "/task/replay": Action(_ask_replay, _replay, admin.TOKEN_SCOPE_SUBMIT),
        "/task/complete": Action(_ask_complete, _complete, admin.TOKEN_SCOPE_COMPLETE),
        "/worker/drain": Action(_ask_drain, _drain),
    }
)
