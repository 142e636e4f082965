"""What fails, by its kind."""

from typing import Final

from hyrex.dashboard.pages.page import Page, Visit
from hyrex.transport.failures import EVERY_FAILURE, Failures, failures_in

LISTED_KINDS: Final = 200


async def failures(visit: Visit) -> Page:
    """Every kind of failure of tasks that were sent in the last 24 hours. Raises: CallFailed."""
    found = await newest_failures(visit)
    return Page("failures.html", "Failures", "failures", values_of(found, LISTED_KINDS), live="/failures")


def values_of(found: Failures, most: int) -> dict[str, object]:
    """What a page shows of them, of up to `most` kinds."""
    return {
        "kinds": found.kinds[:most],
        "kind_count": len(found.kinds),
        "more": found.more,
        "looked_at": found.looked_at,
        "looked_back_to": found.looked_back_to,
    }


async def newest_failures(visit: Visit) -> Failures:
    """The newest failures by kind. Raises: CallFailed."""
    return failures_in(await visit.cluster.kept(visit.token, "tasks", "ListTasks", EVERY_FAILURE))
