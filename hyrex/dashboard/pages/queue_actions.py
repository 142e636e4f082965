"""Pause, resume, limit, purge and delete a queue, and set for how long its tasks are kept."""

import time
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.dashboard.pages.action import Action, Done, Field, Form, Question, reason_of, tasks_text
from hyrex.dashboard.pages.page import FormRefused, Visit
from hyrex.dashboard.render.values import query, queue_rate
from hyrex.rate import checked_rate
from hyrex.v1 import queue_service_pb2 as queues
from hyrex.v1.task_pb2 import Rate

LARGEST_LIMIT: Final = 1_000_000
LONGEST_DAYS: Final = 3650
PURGE_WITHIN_S: Final = 20.0


async def _ask_pause(visit: Visit) -> Question:
    name = visit.wanted("name")
    sentence = "Nothing of it is assigned any more. What runs goes on to its end."
    return Question(f"Pause {name}?", sentence, "Pause", _queue(name))


async def _pause(visit: Visit, form: Form) -> Done:
    return await _set_paused(visit, True, "is paused")


async def _ask_resume(visit: Visit) -> Question:
    name = visit.wanted("name")
    sentence = "What waits in it is assigned again, as workers have free slots."
    return Question(f"Resume {name}?", sentence, "Resume", _queue(name))


async def _resume(visit: Visit, form: Form) -> Done:
    return await _set_paused(visit, False, "is served again")


async def _set_paused(visit: Visit, paused: bool, words: str) -> Done:
    name = visit.wanted("name")
    await visit.calls.act("queues", "UpdateQueue", queues.UpdateQueueRequest(name=name, paused=paused))
    return Done(f"{name} {words}.", _queue(name))


async def _ask_limit(visit: Visit) -> Question:
    name = visit.wanted("name")
    found = await visit.calls.read("queues", "GetQueue", queues.GetQueueRequest(name=name))
    limit = str(found.queue.concurrency_limit or "")
    fields = (
        Field("limit", "Runs at once", "number", limit, "in the whole cluster; empty means no limit"),
        Field(
            "rate", "Rate", value=queue_rate(found.queue), hint="how many begin, as 100/m; empty means any"
        ),
    )
    sentence = "Runs that are under way go on, even above the new limit."
    return Question(f"Limit {name}", sentence, "Set the limit", _queue(name), fields=fields)


async def _limit(visit: Visit, form: Form) -> Done:
    name, text = visit.wanted("name"), form.get("limit", "").strip()
    if text and not (text.isascii() and text.isdecimal() and int(text) <= LARGEST_LIMIT):
        raise FormRefused(f"the limit must be a number from 0 to {LARGEST_LIMIT:,}")
    limit = int(text or 0)
    request = queues.UpdateQueueRequest(name=name, concurrency_limit=limit)
    words = f"runs at most {limit} at once" if limit else "has no limit now"
    if "rate" in form:
        rate = _stated(form["rate"].strip())
        found = await visit.calls.read("queues", "GetQueue", queues.GetQueueRequest(name=name))
        if queue_rate(found.queue) != form["rate"].strip():  # else its burst would be lost
            request.rate.CopyFrom(rate)
        if rate.count:
            words = f"{words if limit else 'has no maximum'}, and begins {form['rate'].strip()}"
    await visit.calls.act("queues", "UpdateQueue", request)
    return Done(f"{name} {words}.", _queue(name))


def _stated(text: str) -> Rate:
    """The rate that a form says, empty for none. Raises FormRefused."""
    try:
        stated = checked_rate(text or None)
    except ValueError as error:
        raise FormRefused(str(error)) from None
    if stated is None:
        return Rate()
    return Rate(count=stated.count, period=Duration(seconds=stated.period_s))


async def _ask_retention(visit: Visit) -> Question:
    name = visit.wanted("name")
    found = await visit.calls.read("queues", "GetQueue", queues.GetQueueRequest(name=name))
    hint = "days; empty means as long as the brokers say"
    fields = (
        Field("days", "Completed and cancelled", "number", str(found.queue.retention_days or ""), hint),
        Field("dead_letters", "Dead letters", "number", str(found.queue.dead_letter_days or ""), hint),
    )
    sentence = "What is past its term goes within days, with its result and its errors."
    return Question(
        f"How long {name} keeps its tasks", sentence, "Set the terms", _queue(name), fields=fields
    )


async def _retention(visit: Visit, form: Form) -> Done:
    name = visit.wanted("name")
    days, dead_letters = _days(form, "days"), _days(form, "dead_letters")
    request = queues.UpdateQueueRequest(name=name, retention_days=days, dead_letter_days=dead_letters)
    await visit.calls.act("queues", "UpdateQueue", request)
    return Done(f"The terms of {name} are set.", _queue(name))


def _days(form: Form, field: str) -> int:
    """A number of days, 0 for none. Raises FormRefused."""
    text = form.get(field, "").strip()
    if text and not (text.isascii() and text.isdecimal() and int(text) <= LONGEST_DAYS):
        raise FormRefused(f"days must be a number from 1 to {LONGEST_DAYS:,}, or empty")
    return int(text or 0)


async def _ask_purge(visit: Visit) -> Question:
    name = visit.wanted("name")
    found = await visit.calls.read("queues", "GetQueue", queues.GetQueueRequest(name=name))
    queue = found.queue
    count = tasks_text(queue.queued + queue.delayed + queue.blocked)
    more = "more than " if queue.queued_capped else ""
    sentence = f"{more}{count} that wait in it are cancelled. What runs goes on to its end."
    fields = (Field("reason", "Why", hint="for the record; may be empty"),)
    shown = sentence[0].upper() + sentence[1:]
    return Question(f"Purge {name}?", shown, "Purge", _queue(name), True, name, fields)


async def _purge(visit: Visit, form: Form) -> Done:
    name = visit.wanted("name")
    if form.get("typed", "") != name:
        raise FormRefused("the name that was typed is not the queue's; nothing was purged")
    request = queues.PurgeQueueRequest(name=name, reason=reason_of(form), in_steps=True)
    cancelled, ends = 0, time.monotonic() + PURGE_WITHIN_S
    while True:
        answer = await visit.calls.act("queues", "PurgeQueue", request)
        cancelled += answer.cancelled
        request.step = answer.next_step
        if not answer.next_step:
            return Done(f"{tasks_text(cancelled)} cancelled in {name}.", _queue(name))
        if time.monotonic() > ends:
            words = f"{tasks_text(cancelled)} cancelled in {name}, and some are left: purge it again."
            return Done(words, _queue(name), bad=True)


async def _ask_delete(visit: Visit) -> Question:
    name = visit.wanted("name")
    sentence = "Only a queue that never had a task can be deleted, such as one that a typing error made."
    return Question(f"Delete {name}?", sentence, "Delete", _queue(name), danger=True)


async def _delete(visit: Visit, form: Form) -> Done:
    name = visit.wanted("name")
    await visit.calls.act("queues", "DeleteQueue", queues.DeleteQueueRequest(name=name))
    return Done(f"{name} is deleted.", "/queues")


def _queue(name: str) -> str:
    return "/queue" + query(name=name)


QUEUE_ACTIONS: Final = MappingProxyType(
    {
        "/queue/pause": Action(_ask_pause, _pause),
        "/queue/resume": Action(_ask_resume, _resume),
        "/queue/limit": Action(_ask_limit, _limit),
        "/queue/retention": Action(_ask_retention, _retention),
        "/queue/purge": Action(_ask_purge, _purge),
        "/queue/delete": Action(_ask_delete, _delete),
    }
)
