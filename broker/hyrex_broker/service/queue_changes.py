"""What an operator changes of a queue, checked."""

from typing import Final, Literal

from hyrex.v1 import queue_service_pb2, task_pb2
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.service import fields
from hyrex_broker.service.rates import checked_rate, rate_text
from hyrex_broker.service.worker_convert import HIGHEST_LIMIT
from hyrex_broker.storage.queues import LimitChange, QueueChange

HIGHEST_MAX_WAITING: Final = 1_000_000
"""A look counts up to a queue's maximum: to count so many takes it some tenths of a second."""


def checked_change(request: queue_service_pb2.UpdateQueueRequest, terms: RetentionTerms) -> QueueChange:
    """What changes. Raises InvalidField."""
    return QueueChange(
        paused=request.paused if request.HasField("paused") else None,
        limit=_checked_limit(request),
        max_waiting=_checked_maximum(request),
        retention_days=_checked_days(request, "retention_days", terms.finished.days),
        dead_letter_days=_checked_days(request, "dead_letter_days", terms.bad_ends.days),
    )


def _checked_limit(request: queue_service_pb2.UpdateQueueRequest) -> LimitChange:
    """What changes of its limit. Raises InvalidField."""
    maximum = request.concurrency_limit if request.HasField("concurrency_limit") else None
    if maximum is not None and not 0 <= maximum <= HIGHEST_LIMIT:
        raise InvalidField(
            "concurrency_limit", maximum, f"must lie between 1 and {HIGHEST_LIMIT}, or be 0 for no limit"
        )
    if not request.HasField("rate"):
        return LimitChange(maximum)
    gone = request.rate == task_pb2.Rate()
    return LimitChange(maximum, True, None if gone else checked_rate(request.rate, "rate"))


def _checked_maximum(request: queue_service_pb2.UpdateQueueRequest) -> int | None:
    """The most that may wait; None if it is to stay. Raises InvalidField."""
    if not request.HasField("max_waiting"):
        return None
    return fields.integer(request.max_waiting, "max_waiting", 0, HIGHEST_MAX_WAITING)


def _checked_days(
    request: queue_service_pb2.UpdateQueueRequest,
    field: Literal["retention_days", "dead_letter_days"],
    most: int,
) -> int | None:
    """For how many days tasks are kept; None if that is to stay. Raises InvalidField."""
    if not request.HasField(field):
        return None
    days: int = getattr(request, field)
    if not 0 <= days <= most:
        setting = "--" + field.replace("_", "-")
        raise InvalidField(
            field, days, f"must lie between 1 and {most}, the broker's {setting}, or be 0 for as long as that"
        )
    return days


def told(change: QueueChange) -> dict[str, str]:
    """What an operator changes, for the audit."""
    found = {} if change.paused is None else {"paused": str(change.paused).lower()}
    limit = change.limit
    found |= {} if limit.maximum is None else {"limit": str(limit.maximum)}
    if limit.changes_rate:
        rate = limit.rate
        found["rate"] = "none" if rate is None else f"{rate_text(rate)}, burst {rate.burst}"
    numbers = {
        "max_waiting": change.max_waiting,
        "retention_days": change.retention_days,
        "dead_letter_days": change.dead_letter_days,
    }
    return found | {name: str(number) for name, number in numbers.items() if number is not None}
