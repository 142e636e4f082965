"""AdminService.GetStats: what was counted over time, for charts."""

from datetime import UTC, datetime, timedelta
from typing import Final

from hyrex.runtime.histogram import RUN_BOUNDS_US
from hyrex.v1 import admin_service_pb2
from hyrex_broker.domain.errors import InvalidField, QueueNotFound
from hyrex_broker.domain.quantiles import quantile
from hyrex_broker.domain.rights import EVERY_QUEUE, Caller, Scope
from hyrex_broker.service import fields
from hyrex_broker.service.times import duration, timestamp
from hyrex_broker.storage.stats import ALL, FINE, Point, StatStore, TimeRange

_USUAL_SPAN: Final = timedelta(hours=1)
_USUAL_POINTS: Final = 360
MOST_POINTS: Final = 1500
_STEPS_S: Final = (10, 30, 60, 300, 900, 1800, 3600, 7200, 14_400, 86_400)
_US: Final = 1_000_000


class StatReads:
    """Answers GetStats. Raises StorageUnavailable."""

    def __init__(self, store: StatStore) -> None:
        self._store = store

    async def get(
        self, request: admin_service_pb2.GetStatsRequest, caller: Caller
    ) -> admin_service_pb2.GetStatsResponse:
        """The points of a range. Raises InvalidField, QueueNotFound for a queue that the caller may not see,
        RightMissing where it may not see all."""
        queue = fields.name(request.queue, "queue") if request.queue else ALL
        if queue == ALL:
            caller.require(Scope.READ, EVERY_QUEUE)
        elif not caller.sees(queue):
            raise QueueNotFound(queue)
        span = _span(request)
        points = await self._store.points(queue, span)
        return admin_service_pb2.GetStatsResponse(
            points=map(_point, points), step=duration(span.step.total_seconds() * 1000)
        )


def _span(request: admin_service_pb2.GetStatsRequest) -> TimeRange:
    until = fields.moment(request.until, "until") if request.HasField("until") else datetime.now(UTC)
    since = fields.moment(request.since, "since") if request.HasField("since") else until - _USUAL_SPAN
    if since >= until:
        raise InvalidField("since", since.isoformat(), "must lie before `until`")
    wanted = (until - since).total_seconds()
    if not request.HasField("step"):
        fitting = (step for step in _STEPS_S if wanted <= step * (_USUAL_POINTS + 1))
        return TimeRange(since, until, timedelta(seconds=next(fitting, wanted // _USUAL_POINTS + 1)))
    least_ms = int(max(FINE.total_seconds(), wanted / MOST_POINTS) * 1000)
    step_ms = fields.milliseconds(request.step, "step", least=least_ms)
    return TimeRange(since, until, timedelta(milliseconds=step_ms))


def _point(found: Point) -> admin_service_pb2.StatPoint:
    counted = found.counted
    ended = counted.completed + counted.failed + counted.timed_out + counted.lost
    point = admin_service_pb2.StatPoint(
        at=timestamp(found.at),
        submitted=counted.submitted,
        completed=counted.completed,
        failed=counted.failed,
        timed_out=counted.timed_out,
        cancelled=counted.cancelled,
        lost=counted.lost,
        retried=max(counted.runs - ended, 0),
        waits=sum(counted.waits),
        runs=sum(counted.run_times),
        run_seconds=counted.run_us / _US,
        ready=found.ready,
        delayed=found.delayed,
        blocked=found.blocked,
        running=found.running,
        oldest_ready_s=found.oldest_s,
    )
    if counted.waits:
        point.wait_p50_s = quantile(0.5, RUN_BOUNDS_US, counted.waits) / _US
        point.wait_p99_s = quantile(0.99, RUN_BOUNDS_US, counted.waits) / _US
    if counted.run_times:
        point.run_p50_s = quantile(0.5, RUN_BOUNDS_US, counted.run_times) / _US
        point.run_p99_s = quantile(0.99, RUN_BOUNDS_US, counted.run_times) / _US
    return point
