"""Says what a queued task waits for, as text for people."""

from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import RunConditions, RunStatusView, TaskView


def waiting_for(queue: str, name: str, around: RunConditions) -> str:
    """Why no worker can take the task now; empty if it only waits for the tasks before it."""
    if around.paused:
        return f"queue {queue!r} is paused"
    return _missing_worker(queue, name, around) or _saturated_limit(queue, name, around)


def waiting_for_another_worker(view: TaskView) -> str:
    """Why a worker with another version of the task gave it back with a delay; empty if none did."""
    if view.state not in (TaskState.SCHEDULED, TaskState.RETRYING) or not view.runs:
        return ""
    last = view.runs[-1]
    return last.reason or "" if last.state is RunStatusView.RELEASED else ""


def _missing_worker(queue: str, name: str, around: RunConditions) -> str:
    serving = [service for service in around.services if service.serves_queue]
    if not serving:
        return f"no connected worker serves queue {queue!r}"
    if any(service.knows_task for service in serving):
        return ""
    if any(service.knows_task for service in around.services):
        return f"no connected worker that serves queue {queue!r} has {name}"
    return f"no connected worker has {name}"


def _saturated_limit(queue: str, name: str, around: RunConditions) -> str:
    if around.queue_limit is not None and around.queue_running >= around.queue_limit:
        return f"the limit of queue {queue!r} ({around.queue_limit}) is reached"
    if around.task_limit is not None and around.task_running >= around.task_limit:
        return f"the limit of task {name} ({around.task_limit}) is reached"
    return ""
