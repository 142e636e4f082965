"""What a row of the outbox beside the database must be like before it is carried.

Its functions refuse all else (migrations/0001_first.sql), but whoever owns that database may insert rows
himself, and none of them may harm what brokers do for others.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from hyrex_broker.domain.outbox import ID_OF_2200

_NAME_BYTES: Final = 255
_TEXTS_BYTES: Final = 64 * 1024
_TEN_YEARS_S: Final = 316_224_000
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_UUID: Final = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_TRACE: Final = re.compile(r"[0-9a-f]{52}")


def why_unfit(row_id: str, task: str, queue: str | None, run_at: datetime | None, options: str) -> str | None:
    """Why no task can be made of a row; None if one can, as far as this can be told. Options that only a
    later version knows are for the relay to judge. It quotes no option: who may not see payloads reads it."""
    if not _is_name(task):
        return f"the name of its task must have 1 to {_NAME_BYTES} bytes, got {task[:80]!r}"
    if queue is not None and not _is_name(queue):
        return f"the name of its queue must have 1 to {_NAME_BYTES} bytes, got {queue[:80]!r}"
    if row_id >= ID_OF_2200:
        return f"its id {row_id} has a time after the year 2200"
    if run_at is not None and not _is_time(run_at):
        return f"its run_at must lie between the years 1970 and 2200, got {run_at}"
    return None if options == "{}" else _why_unfit_options(options)


def _why_unfit_options(text: str) -> str | None:
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"its options cannot be read: {error}"
    if not isinstance(options, dict):
        return "its options must be an object"
    for name, value in options.items():
        fits = RULES.get(name)
        if fits is not None and not fits(value):
            return f"its option {name} has a value that hyrex.enqueue refuses"
    return None


def _is_time(value: datetime) -> bool:
    return value.tzinfo is not None and _FIRST <= value <= _LAST  # none has it where Postgres says infinity


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value.encode(errors="replace")) <= _NAME_BYTES


def _number(least: float, most: float) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return fits


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    within = _number(least, most)

    def fits(value: Any) -> bool:
        return within(value) and value == int(value)

    return fits


def _like(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, str) and pattern.fullmatch(value) is not None

    return fits


def _are_texts(value: Any) -> bool:
    if not isinstance(value, dict) or "" in value:
        return False
    parts = [part for pair in value.items() for part in pair]
    if not all(isinstance(each, str) for each in parts):
        return False
    return sum(len(part.encode(errors="replace")) for part in parts) <= _TEXTS_BYTES


RULES: Final[Mapping[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "priority": _whole(1, 10),
        "max_retries": _whole(0, 1_000_000),
        "max_per_key": _whole(1, 1000),
        "timeout_seconds": _number(0.001, _TEN_YEARS_S),
        "expires_in_seconds": _number(0.001, _TEN_YEARS_S),
        "delay_seconds": _number(0, _TEN_YEARS_S),
        "retry_delay_seconds": _number(0, _TEN_YEARS_S),
        "run_at": _is_name,
        "idempotency_key": _is_name,
        "concurrency_key": _is_name,
        "fair_key": _is_name,
        "content_type": _is_name,
        "codec": _is_name,
        "parent_id": _like(_UUID),
        "root_id": _like(_UUID),
        "trace_context": _like(_TRACE),
        "on_full": lambda value: value in ("wait", "refuse"),
        "headers": _are_texts,
        "labels": _are_texts,
    }
)
"""What each option may be, as `checked_enqueue_options` has it."""
