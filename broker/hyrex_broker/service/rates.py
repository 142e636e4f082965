"""Rates of limits: their fields checked, and shown."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import task_pb2
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.rates import (
    HIGHEST_COUNT,
    LONGEST_PERIOD_MS,
    SHORTEST_PERIOD_MS,
    Rate,
    default_burst,
)
from hyrex_broker.service import fields
from hyrex_broker.service.terms import refuse_unknown


def checked_rate(rate: task_pb2.Rate, field: str) -> Rate:
    """A rate within its bounds. Raises InvalidField."""
    refuse_unknown(rate, field)
    count = fields.integer(rate.count, f"{field}.count", 1, HIGHEST_COUNT)
    burst = fields.integer(rate.burst, f"{field}.burst", 0, HIGHEST_COUNT)
    period_ms, left = divmod(rate.period.seconds * 1_000_000_000 + rate.period.nanos, 1_000_000)
    if left or not SHORTEST_PERIOD_MS <= period_ms <= LONGEST_PERIOD_MS:
        told = f"{rate.period.seconds + rate.period.nanos / 1e9:g} s"
        remedy = "must lie between 1 second and 1 day, in whole milliseconds"
        raise InvalidField(f"{field}.period", told, remedy)
    return Rate(count, period_ms, burst or default_burst(count, period_ms))


def rate_if_any(rate: Rate | None) -> task_pb2.Rate | None:
    """A rate for the wire."""
    if rate is None:
        return None
    period = Duration()
    period.FromTimedelta(timedelta(milliseconds=rate.period_ms))
    return task_pb2.Rate(count=rate.count, period=period, burst=rate.burst)


def rate_text(rate: Rate) -> str:
    """A rate for people."""
    periods = {1000: "second", 60_000: "minute", 3_600_000: "hour", 86_400_000: "day"}
    period = periods.get(rate.period_ms, f"{rate.period_ms / 1000:g} s")
    return f"{rate.count} per {period}"
