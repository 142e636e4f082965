"""What fails, by its kind."""

from dataclasses import dataclass
from typing import Final

from hyrex.dashboard.pages.page import Page, Visit
from hyrex.transport.failures import EVERY_FAILURE, Kind, kinds_of

LISTED_KINDS: Final = 200


@dataclass(frozen=True, slots=True)
class Failures:
    """The kinds, the one that failed last before the others. `more`: older ones were not looked at."""

    kinds: list[Kind]
    more: bool


async def failures(visit: Visit) -> Page:
    """Every kind of failure of the last 24 hours. Raises: CallFailed."""
    found = await newest_failures(visit)
    values = {"kinds": found.kinds[:LISTED_KINDS], "more": found.more, "looked_at": EVERY_FAILURE.page_size}
    return Page("failures.html", "Failures", "failures", values, live="/failures")


async def newest_failures(visit: Visit) -> Failures:
    """The newest failures by kind. Raises: CallFailed."""
    listed = await visit.cluster.kept(visit.token, "tasks", "ListTasks", EVERY_FAILURE)
    return Failures(kinds_of(listed.tasks), bool(listed.next_page_token))
