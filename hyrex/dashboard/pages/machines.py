"""Workers and brokers."""

import uuid
from collections.abc import Sequence
from typing import Final

from hyrex.dashboard.pages.page import Missing, Page, Visit
from hyrex.dashboard.render.values import query
from hyrex.v1 import admin_service_pb2 as admin

EVERY_WORKER: Final = admin.ListWorkersRequest(page_size=1000)


async def workers(visit: Visit) -> Page:
    """Every live worker. Raises: CallFailed."""
    seen = await visit.snapshot()
    values = {
        "workers": seen.workers,
        "capped": seen.frame.workers_capped,
        "broker_url": visit.calls.brokers.url,
    }
    return Page("workers.html", "Workers", "workers", values, live="/workers")


async def worker(visit: Visit) -> Page:
    """One worker. Raises: Missing, CallFailed."""
    wanted = visit.wanted("id")
    seen = await visit.snapshot()
    found = next((each for each in seen.workers if each.session.session_id == wanted), None)
    if found is None:
        raise Missing("there is no such worker now; it may have left")
    values = {"worker": found.session, "runs": found.runs, "names": await _names(visit, wanted)}
    title = found.session.worker_name or "Worker"
    return Page("worker.html", title, "workers", values, live="/worker" + query(id=wanted))


async def _names(visit: Visit, wanted: str) -> Sequence[str]:
    """The functions that a worker has; the stream leaves them out."""
    listed = await visit.cluster.kept(visit.token, "admin", "ListWorkers", EVERY_WORKER)
    return next((each.task_names for each in listed.workers if each.session_id == wanted), ())


async def brokers(visit: Visit) -> Page:
    """The brokers. Raises: CallFailed."""
    seen = await visit.snapshot()
    return Page("brokers.html", "Brokers", "brokers", {"brokers": seen.frame.brokers}, live="/brokers")


def valid_id(text: str) -> str:
    """A UUID in its canonical form. Raises: Missing."""
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        raise Missing("that is no id") from None
