"""Workers and brokers."""

import uuid

from hyrex.dashboard.pages.page import Missing, Page, Visit
from hyrex.dashboard.render.values import query


async def workers(visit: Visit) -> Page:
    """Every live worker. Raises: CallFailed."""
    seen = await visit.snapshot()
    values = {"workers": seen.workers, "capped": seen.capped, "broker_url": visit.calls.brokers.url}
    return Page("workers.html", "Workers", "workers", values, live="/workers")


async def worker(visit: Visit) -> Page:
    """One worker. Raises: Missing, CallFailed."""
    wanted = valid_id(visit.wanted("id"))
    seen = await visit.snapshot()
    found = next((each for each in seen.workers if each.session_id == wanted), None)
    if found is None:
        raise Missing("there is no such worker now; it may have left")
    title = found.worker_name or "Worker"
    return Page("worker.html", title, "workers", {"worker": found}, live="/worker" + query(id=wanted))


async def brokers(visit: Visit) -> Page:
    """The brokers. Raises: CallFailed."""
    seen = await visit.snapshot()
    return Page("brokers.html", "Brokers", "brokers", {"brokers": seen.brokers}, live="/brokers")


def valid_id(text: str) -> str:
    """A UUID in its canonical form. Raises: Missing."""
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        raise Missing("that is no id") from None
