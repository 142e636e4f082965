"""Values of the wire as words: statuses, times, durations, numbers."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.message import Message
from markupsafe import Markup

from hyrex.filterline import FilterLine, is_sayable
from hyrex.rate import rate_text
from hyrex.runtime import patterns
from hyrex.transport.filters import filter_line
from hyrex.v1 import admin_service_pb2, queue_service_pb2, schedule_service_pb2, task_pb2

ABSENT: Final = Markup('<span class="absent">–</span>')
_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
FINAL: Final = frozenset(
    {
        task_pb2.TASK_STATUS_COMPLETED,
        task_pb2.TASK_STATUS_FAILED,
        task_pb2.TASK_STATUS_TIMED_OUT,
        task_pb2.TASK_STATUS_CANCELLED,
        task_pb2.TASK_STATUS_LOST,
    }
)
BAD: Final = frozenset(FINAL - {task_pb2.TASK_STATUS_COMPLETED, task_pb2.TASK_STATUS_CANCELLED})


def _words(enum: Any, prefix: str) -> Mapping[int, str]:
    return MappingProxyType(
        {number: name.removeprefix(prefix).lower() for name, number in enum.items() if number}
    )


TASK_WORDS: Final = _words(task_pb2.TaskStatus, "TASK_STATUS_")
RUN_WORDS: Final = _words(task_pb2.RunStatus, "RUN_STATUS_")

BULK_WORDS: Final = MappingProxyType(
    {
        admin_service_pb2.BULK_ACTION_CANCEL: "Cancel",
        admin_service_pb2.BULK_ACTION_RETRY: "Retry",
        admin_service_pb2.BULK_ACTION_DISMISS: "Dismiss",
    }
)
CAUSE_WORDS: Final = _words(task_pb2.CancelCause, "CANCEL_CAUSE_")


def task_word(status: int) -> str:
    """A task's status in one word; "unknown" for one of a newer broker."""
    return TASK_WORDS.get(status, "unknown")


def run_word(status: int) -> str:
    """A run's status in one word."""
    return RUN_WORDS.get(status, "unknown")


def cause_word(cause: int) -> str:
    """Why a task is cancelled, in one word."""
    return CAUSE_WORDS.get(cause, "another cause")


def bulk_word(action: "admin_service_pb2.BulkAction.ValueType") -> str:
    """What a bulk operation does."""
    return BULK_WORDS.get(action, "Change")


def bulk_filter(operation: "admin_service_pb2.BulkOperation") -> str:
    """The tasks that a bulk operation is for, as a filter line."""
    return filter_line(operation.filter).text()


def slot_word(cause: "schedule_service_pb2.SlotCause.ValueType") -> str:
    """Why a schedule's task was stored."""
    match cause:
        case schedule_service_pb2.SLOT_CAUSE_DUE:
            return "due"
        case schedule_service_pb2.SLOT_CAUSE_MISSED:
            return "missed, made up for"
        case schedule_service_pb2.SLOT_CAUSE_BACKFILL:
            return "backfill"
        case schedule_service_pb2.SLOT_CAUSE_TRIGGER:
            return "triggered"
        case _:
            return "unknown"


def bulk_state(state: "admin_service_pb2.BulkState.ValueType") -> str:
    """Where a bulk operation stands, as a word that has a sign."""
    match state:
        case admin_service_pb2.BULK_STATE_RUNNING:
            return "running"
        case admin_service_pb2.BULK_STATE_DONE:
            return "completed"
        case _:
            return "stopped"


def moment(message: Message, field: str) -> datetime | None:
    """A time field, None where it is absent or no time."""
    if not message.HasField(field):
        return None
    try:
        found: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return found


def duration(seconds: float | None) -> str:
    """A duration for people: 0.4 ms, 42 ms, 3.1 s, 2 min 5 s, 3 h 12 min."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        ms = max(seconds, 0) * 1000
        return f"{round(ms, 1):g} ms" if ms < 9.95 else f"{ms:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    for (size, unit), (smaller, small_unit) in zip(_UNITS, (*_UNITS[1:], (1.0, "s")), strict=True):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            below = int(rest // smaller)
            return f"{whole:.0f} {unit} {below} {small_unit}" if below else f"{whole:.0f} {unit}"
    return f"{seconds:.0f} s"


def number(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def rate(value: float) -> str:
    """A number per second with as many digits as say something."""
    if value >= 99.5 or value == 0:
        return number(value)
    if value >= 0.0095:
        return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"
    return f"{value:.{-math.floor(math.log10(value))}f}"


def queue_rate(queue: queue_service_pb2.Queue) -> str:
    """How many of a queue may begin in a time: 100/m; empty for any number."""
    if not queue.HasField("rate"):
        return ""
    return rate_text(queue.rate.count, queue.rate.period.seconds + queue.rate.period.nanos / 1e9)


def bytes_text(size: int) -> str:
    """A size: 12 B, 3.4 KiB, 1.2 MiB."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"


def time_tag(value: datetime | None, *, absent: str = "–") -> Markup:
    """A time: exact here, relative once the page's script has seen it."""
    if value is None:
        return Markup('<span class="absent">{}</span>').format(absent)
    stamp = value.astimezone(UTC)
    text = stamp.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{} UTC</time>').format(stamp.isoformat(timespec="milliseconds"), text)


def exactly(value: datetime | None) -> Markup:
    """A time as logs have it, in UTC."""
    if value is None:
        return ABSENT
    text = value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")
    return Markup('<span class="num">{}</span>').format(text)


def query(**values: object) -> str:
    """A query string; names and ids travel in queries only, so no path can be made of them."""
    parts = [
        f"{key}={quote(str(value), safe='')}" for key, value in values.items() if value not in (None, "")
    ]
    return f"?{'&'.join(parts)}" if parts else ""


def one_word(key: str, value: str) -> str:
    """The word of the filter line that asks for this value alone, in quotation marks where it needs them;
    empty where there is none."""
    if not is_sayable(value):
        return ""
    pattern = patterns.escaped(value)
    match key:
        case "queue":
            return FilterLine(queues=(pattern,)).text()
        case "name":
            return FilterLine(names=(pattern,)).text()
        case "error":
            return FilterLine(error_types=(pattern,)).text()
        case _:
            return f"{key}:{value}"
