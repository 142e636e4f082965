"""What brokers counted, as charts: the rate by outcome, waits, run times, and what waits."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.dashboard.render.charts import Chart, Series
from hyrex.dashboard.render.values import moment
from hyrex.v1 import admin_service_pb2 as admin

POINTS: Final = 120
FINEST: Final = timedelta(seconds=10)
RANGES: Final = MappingProxyType(
    {
        "15m": timedelta(minutes=15),
        "1h": timedelta(hours=1),
        "24h": timedelta(hours=24),
        "30d": timedelta(days=30),
    }
)
DEFAULT_RANGE: Final = "1h"

Points = Sequence[admin.StatPoint | None]


def stats_request(span: str, queue: str = "", now: datetime | None = None) -> admin.GetStatsRequest:
    """The request for a range, whose end is the last whole step."""
    whole = RANGES[span]
    step = max(whole / POINTS, FINEST)
    end = (now or datetime.now(UTC)).timestamp() // step.total_seconds() * step.total_seconds()
    since, until = Timestamp(), Timestamp()
    until.FromMilliseconds(round(end * 1000))
    since.FromMilliseconds(round((end - whole.total_seconds()) * 1000))
    return admin.GetStatsRequest(
        since=since, until=until, queue=queue, step=Duration(seconds=round(step.total_seconds()))
    )


def charts_of(request: admin.GetStatsRequest, answer: admin.GetStatsResponse) -> list[Chart]:
    """The four charts of an answer."""
    start, points, step = _placed(request, answer)
    seconds = step.total_seconds()

    def per_second(name: str) -> list[float | None]:
        return [getattr(point, name) / seconds if point is not None else 0.0 for point in points]

    def failed(name: str) -> list[float | None]:
        names = ("failed", "timed_out", "lost") if name == "failed" else (name,)
        columns = [per_second(each) for each in names]
        return [sum(value or 0.0 for value in column) for column in zip(*columns, strict=True)]

    rates = (
        Series("completed", "is-completed", per_second("completed"), stacked=True),
        Series("failed", "is-failed", failed("failed"), stacked=True),
        Series("cancelled", "is-cancelled", per_second("cancelled"), stacked=True),
        Series("sent", "is-sent", per_second("submitted")),
    )
    return [
        Chart("Ended", "rate", start, step, rates),
        Chart("Wait in the queue", "seconds", start, step, _quantiles(points, "wait", "waits")),
        Chart("Run time", "seconds", start, step, _quantiles(points, "run", "runs")),
        Chart("Depth", "count", start, step, _depths(points)),
    ]


def _placed(
    request: admin.GetStatsRequest, answer: admin.GetStatsResponse
) -> tuple[datetime, Points, timedelta]:
    """The points in their places; a step that the answer leaves out is None."""
    step = answer.step.ToTimedelta() or request.step.ToTimedelta()
    start, end = moment(request, "since"), moment(request, "until")
    assert start is not None, "every request has its range"
    assert end is not None, "every request has its range"
    count = max(2, round((end - start) / step))
    found: list[admin.StatPoint | None] = [None] * count
    for point in answer.points:
        at = moment(point, "at")
        place = int((at - start) / step) if at is not None else -1
        if 0 <= place < count:
            found[place] = point
    return start, found, step


def _quantiles(points: Points, name: str, counted: str) -> tuple[Series, ...]:
    def values(field: str) -> list[float | None]:
        return [
            getattr(point, field) if point is not None and getattr(point, counted) else None
            for point in points
        ]

    return (
        Series("half within", "is-running", values(f"{name}_p50_s")),
        Series("99 of 100 within", "is-scheduled", values(f"{name}_p99_s")),
    )


def _depths(points: Points) -> tuple[Series, ...]:
    def values(field: str) -> list[float | None]:
        return [
            float(getattr(point, field)) if point is not None and point.HasField(field) else None  # type: ignore[arg-type]
            for point in points
        ]

    blocked = values("blocked")
    return (
        Series("ready", "is-queued", values("ready")),
        Series("delayed", "is-scheduled", values("delayed")),
        *([Series("blocked", "is-blocked", blocked)] if any(blocked) else []),
        Series("running", "is-running", values("running")),
    )
