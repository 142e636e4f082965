"""All queues, and one queue."""

from typing import Final

from hyrex.dashboard.cluster import Snapshot
from hyrex.dashboard.pages.overview import charts, span_of, weight
from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.values import query
from hyrex.runtime import patterns
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import queue_service_pb2 as queues
from hyrex.v1 import task_service_pb2 as tasks

NEWEST: Final = 20


async def all_queues(visit: Visit) -> Page:
    """Every queue. Raises: CallFailed."""
    seen = await visit.snapshot()
    values: dict[str, object] = {"queues": seen.queues, "capped": seen.frame.queues_capped}
    values["trends"] = await visit.trends.of(visit.token, busiest(seen))
    return Page("queues.html", "Queues", "queues", values, live="/queues")


def busiest(seen: Snapshot) -> list[str]:
    """The names of all queues, those before the others in which most happens."""
    return [each.queue.name for each in sorted(seen.queues, key=weight)]


async def one_queue(visit: Visit) -> Page:
    """One queue with its newest tasks. Raises: Missing, CallFailed."""
    name = visit.wanted("name")
    seen = await visit.snapshot()
    queue = await _find(visit, name)
    span = span_of(visit)
    newest = await visit.calls.read(
        "tasks", "ListTasks", tasks.ListTasksRequest(page_size=NEWEST, queue=name)
    )
    here = "/queue" + query(name=name)
    values = {
        "queue": queue,
        "activity": seen.queue(name),
        "tasks": newest.tasks,
        "workers": serving(seen, name),
        "charts": await charts(visit, span, name),
        "span": span,
        "here": here,
    }
    return Page("queue.html", name, "queues", values, live=f"{here}&span={span}")


def serving(seen: Snapshot, name: str) -> list[admin.WorkerSession]:
    """Workers whose patterns match the queue."""
    sessions = (each.session for each in seen.workers)
    return [each for each in sessions if patterns.known(tuple(each.queue_patterns))(name)]


async def _find(visit: Visit, name: str) -> queues.Queue:
    """The queue as it is now, also where a change of it is younger than the snapshot."""
    request = queues.GetQueueRequest(name=name)
    response: queues.GetQueueResponse = await visit.calls.read("queues", "GetQueue", request)
    return response.queue
