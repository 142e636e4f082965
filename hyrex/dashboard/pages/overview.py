"""The first page: how much waits, who works, what needs somebody, and how it went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex.dashboard.cluster import Snapshot
from hyrex.dashboard.pages.charts import DEFAULT_RANGE, RANGES, charts_of, stats_request
from hyrex.dashboard.pages.failures import newest_failures, values_of
from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.charts import Chart
from hyrex.dashboard.render.values import moment, query
from hyrex.v1 import admin_service_pb2 as admin

KINDS_OF_FAILURES: Final = 6
BUSIEST: Final = 12
ALL_QUEUES: Final = "*"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all queues and workers."""

    queued: int
    capped: bool
    oldest: datetime | None
    delayed: int
    blocked: int
    running: int
    workers: int
    slots: int
    busy: int
    completed_per_s: float
    failed_per_s: float


async def overview(visit: Visit) -> Page:
    """The overview. Raises: CallFailed."""
    seen = await visit.snapshot()
    failed = await newest_failures(visit)
    span = span_of(visit)
    queues = sorted(seen.queues, key=weight)[:BUSIEST]
    values = {
        "totals": totals(seen),
        "queues": queues,
        "trends": await visit.trends.of(visit.token, [each.queue.name for each in queues]),
        "queue_count": len(seen.queues),
        "needs": seen.frame.needs,
        "rows_refused": admin.NEED_KIND_ROWS_REFUSED,
        **values_of(failed, KINDS_OF_FAILURES),
        "brokers": seen.frame.brokers,
        "workers": seen.workers,
        "charts": await charts(visit, span) if await _sees_all_queues(visit) else None,
        "span": span,
        "here": "/",
    }
    return Page("overview.html", "Overview", "overview", values, live="/" + query(span=span))


def span_of(visit: Visit) -> str:
    """The range of the charts."""
    wanted = visit.query.get("span", DEFAULT_RANGE)
    return wanted if wanted in RANGES else DEFAULT_RANGE


async def charts(visit: Visit, span: str, queue: str = "") -> Sequence[Chart]:
    """The charts of all queues or of one. Raises: CallFailed."""
    request = stats_request(span, queue)
    return charts_of(request, await visit.cluster.kept(visit.token, "admin", "GetStats", request))


async def _sees_all_queues(visit: Visit) -> bool:
    """True if the token is for every queue: brokers tell the counts of all queues together to no other.
    Raises: CallFailed."""
    caller = await visit.cluster.kept(visit.token, "admin", "GetCaller", admin.GetCallerRequest())
    return ALL_QUEUES in caller.queue_patterns


def totals(seen: Snapshot) -> Totals:
    """The sums of a snapshot."""
    queues = [each.queue for each in seen.queues]
    sessions = [each.session for each in seen.workers]
    return Totals(
        queued=sum(queue.queued for queue in queues),
        capped=seen.frame.queues_capped or any(queue.queued_capped for queue in queues),
        oldest=min(filter(None, (moment(each, "oldest_ready_at") for each in seen.queues)), default=None),
        delayed=sum(queue.delayed for queue in queues),
        blocked=sum(queue.blocked for queue in queues),
        running=sum(queue.running for queue in queues),
        workers=len(sessions),
        slots=sum(session.slots or session.capacity for session in sessions),
        busy=sum(session.running for session in sessions),
        completed_per_s=sum(each.completed_per_s for each in seen.queues),
        failed_per_s=sum(each.failed_per_s for each in seen.queues),
    )


def weight(each: admin.QueueActivity) -> tuple[float, str]:
    """Sorts queues: first those in which most waits, runs and ends."""
    queue = each.queue
    return (
        -(queue.queued + queue.running + queue.delayed + queue.blocked + each.completed_per_s),
        queue.name,
    )
