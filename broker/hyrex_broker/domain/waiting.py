"""Says what a task waits for, as text for people."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from hyrex_broker.domain.model import CancelCause, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import HolderView, RunConditions, RunStatusView, TaskTimes, TaskView

ITS_TURN: Final = "it waits its turn: for a free slot of a worker, behind the tasks before it"


def waiting_for(queue: str, name: str, around: RunConditions) -> str:
    """Why no worker can take the task now; empty if it only waits for the tasks before it."""
    if around.paused:
        return f"queue {queue!r} is paused"
    missing = _missing_worker(queue, name, around)
    if missing:
        return missing
    match full_limit(queue, name, around):
        case ("queue", _):
            return f"the limit of queue {queue!r} ({around.queue_limit}) is reached"
        case ("task", _):
            return f"the limit of task {name} ({around.task_limit}) is reached"
        case _:
            return _next_token(queue, name, around)


def _next_token(queue: str, name: str, around: RunConditions) -> str:
    """Which rate it waits for, and until when; empty if for none."""
    waits = [
        (at, what, rate)
        for at, what, rate in (
            (around.queue_token_at, f"queue {queue!r}", around.queue_rate),
            (around.task_token_at, f"task {name}", around.task_rate),
        )
        if at is not None
    ]
    if not waits:
        return ""
    at, what, rate = max(waits)
    said = f" ({rate[0]} in {rate[1] / 1000:g} s)" if rate else ""
    return f"the rate of {what}{said} is used up; the next one may begin at {_at(at, 'milliseconds')}"


def waiting_for_another_worker(view: TaskView) -> str:
    """Why a worker with another version of the task gave it back with a delay; empty if none did."""
    if view.state not in (TaskState.SCHEDULED, TaskState.RETRYING) or not view.runs:
        return ""
    last = view.runs[-1]
    return last.reason or "" if last.state is RunStatusView.RELEASED else ""


MOST_NAMED: Final = 10


def waiting_for_nodes(names: Sequence[str]) -> str:
    """What a node or the root of a workflow waits for; empty if for no node."""
    if not names:
        return ""
    told = ", ".join(names[:MOST_NAMED]) + (", and others" if len(names) > MOST_NAMED else "")
    return f"it waits until these nodes of its workflow have ended: {told}"


def waiting_outside(task_id: TaskId) -> str:
    """What a task waits for that no worker runs."""
    return f"it waits for a call from outside: hyrex task complete {task_id}"


def waiting_for_key(key: str, most: int, holders: Sequence[HolderView]) -> str:
    """What a blocked task waits for."""
    if not key:
        return "a broker is about to look at it"
    held = (
        f"task {holders[0].task_id} has held it longest"
        if holders
        else "nobody holds it: it goes on in a moment"
    )
    return f"it waits for concurrency key {key!r}, of which {most} may run at once: {held}"


def full_limit(queue: str, name: str, around: RunConditions) -> tuple[str, str] | None:
    """Scope and name of the limit that a task of this queue and name waits for; None if for none, or if it
    could not run either without the limit."""
    if around.paused or _missing_worker(queue, name, around):
        return None
    if around.queue_limit is not None and around.queue_running >= around.queue_limit:
        return "queue", queue
    if around.task_limit is not None and around.task_running >= around.task_limit:
        return "task", name
    return None


def why_not_running(view: TaskView) -> str:
    """Why a task that is not queued does not run now, or that it does."""
    at = f" at {_at(view.run_at)}" if view.run_at is not None else ""
    match view.state:
        case TaskState.SCHEDULED:
            return waiting_for_another_worker(view) or f"it is scheduled to run{at}"
        case TaskState.RETRYING:
            return waiting_for_another_worker(view) or f"its last run did not succeed; it runs again{at}"
        case TaskState.RUNNING:
            worker = view.runs[-1].worker if view.runs else ""
            asked = "; it was asked to stop" if view.cancel_requested else ""
            return f"it is running on worker {worker}{asked}" if worker else f"it is running{asked}"
        case _:
            cause = view.runs[-1].cause if view.runs else None
            late = ", since it did not begin in time" if cause is CancelCause.EXPIRED else ""
            return f"it has ended: {view.state.name.lower().replace('_', ' ')}{late}"


def times_besides(view: TaskView, times: TaskTimes) -> str:
    """What a task's own times add to the sentence: expiry, debounce, the next slot of its schedule."""
    parts = []
    waits = view.state in (TaskState.QUEUED, TaskState.SCHEDULED, TaskState.RETRYING, TaskState.BLOCKED)
    if waits and view.expires_at is not None:
        begun = "ended" if view.is_outside else "begun"
        parts.append(f"it expires at {_at(view.expires_at)} if it has not {begun} by then")
    if view.state is TaskState.SCHEDULED and times.debounce_key is not None:
        bound = f", until {_at(times.latest_at)} at the latest" if times.latest_at is not None else ""
        parts.append(f"each send with the debounce key {times.debounce_key!r} begins its wait anew{bound}")
    if times.schedule is not None:
        slot = "it is paused" if times.next_at is None else f"its next slot is {_at(times.next_at)}"
        parts.append(f"it is of schedule {times.schedule!r}: {slot}")
    return "".join(f"; {part}" for part in parts)


def _at(moment: datetime, timespec: str = "seconds") -> str:
    """A time as the dashboard writes it, "2026-11-28 01:30:00 UTC"; terminals write theirs likewise."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ', timespec=timespec)} UTC"


def _missing_worker(queue: str, name: str, around: RunConditions) -> str:
    serving = [service for service in around.services if service.serves_queue]
    if not serving:
        return f"no connected worker serves queue {queue!r}"
    if any(service.knows_task for service in serving):
        return ""
    if any(service.knows_task for service in around.services):
        return f"no connected worker that serves queue {queue!r} has {name}"
    return f"no connected worker has {name}"
