"""What a queued task waits for, in words."""

from hyrex_broker.domain.views import Surroundings


def waiting_for(queue: str, name: str, around: Surroundings) -> str:
    """Why no worker can take the task now; empty where it only waits its turn."""
    if around.paused:
        return f"queue {queue!r} is paused"
    return _missing_worker(queue, name, around) or _saturated_limit(queue, name, around)


def _missing_worker(queue: str, name: str, around: Surroundings) -> str:
    serving = [service for service in around.services if service.serves_queue]
    if not serving:
        return f"no connected worker serves queue {queue!r}"
    if any(service.knows_task for service in serving):
        return ""
    if any(service.knows_task for service in around.services):
        return f"no connected worker that serves queue {queue!r} has {name}"
    return f"no connected worker has {name}"


def _saturated_limit(queue: str, name: str, around: Surroundings) -> str:
    if around.queue_limit is not None and around.queue_running >= around.queue_limit:
        return f"the limit of queue {queue!r} ({around.queue_limit}) is reached"
    if around.task_limit is not None and around.task_running >= around.task_limit:
        return f"the limit of task {name} ({around.task_limit}) is reached"
    return ""
