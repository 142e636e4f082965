"""The first page: how much waits, who works, and what needs somebody."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hyrex.dashboard.cluster import Snapshot
from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.values import BAD
from hyrex.v1 import queue_service_pb2 as queues
from hyrex.v1 import task_service_pb2 as tasks

RECENT_FAILURES: Final = 8


@dataclass(frozen=True, slots=True)
class Need:
    """Something that somebody should look at, and the command that mends it."""

    sentence: str
    queue: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all queues and workers."""

    queued: int
    capped: bool
    delayed: int
    running: int
    workers: int
    slots: int
    busy: int


async def overview(visit: Visit) -> Page:
    """The overview. Raises: CallFailed."""
    seen = await visit.snapshot()
    failed = await visit.calls.read(
        "tasks", "ListTasks", tasks.ListTasksRequest(page_size=RECENT_FAILURES, statuses=sorted(BAD))
    )
    values = {
        "totals": totals(seen),
        "queues": sorted(seen.queues, key=_weight)[:12],
        "queue_count": len(seen.queues),
        "needs": list(needs(seen)),
        "failed": failed.tasks,
        "brokers": seen.brokers,
        "workers": seen.workers,
    }
    return Page("overview.html", "Overview", "overview", values, live="/")


def totals(seen: Snapshot) -> Totals:
    """The sums of a snapshot."""
    return Totals(
        queued=sum(queue.queued for queue in seen.queues),
        capped=any(queue.queued_capped for queue in seen.queues),
        delayed=sum(queue.delayed for queue in seen.queues),
        running=sum(queue.running for queue in seen.queues),
        workers=len(seen.workers),
        slots=sum(worker.slots or worker.capacity for worker in seen.workers),
        busy=sum(worker.running for worker in seen.workers),
    )


def needs(seen: Snapshot) -> Iterator[Need]:
    """What cannot move on by itself."""
    for queue in seen.queues:
        if queue.queued and queue.paused:
            yield Need("is paused, and tasks wait in it", queue.name, "hyrex queue resume")
        elif queue.queued and not queue.workers:
            yield Need("has tasks, and no worker serves it", queue.name, "hyrex run-worker app:app -q")
        elif queue.queued and 0 < queue.concurrency_limit <= queue.running:
            yield Need("runs as much as its limit allows, and tasks wait", queue.name, "hyrex queue limit")


def _weight(queue: queues.Queue) -> tuple[int, str]:
    return (-(queue.queued + queue.running + queue.delayed), queue.name)
