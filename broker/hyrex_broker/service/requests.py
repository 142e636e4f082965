"""Checks of requests as a whole: lists of ids, page sizes, callers."""

from collections.abc import Sequence
from typing import Any, Final

import grpc.aio

from hyrex_broker.domain.errors import InvalidField, TooManyItems
from hyrex_broker.domain.model import TaskId
from hyrex_broker.service import fields

MOST_IDS: Final = 1000
MOST_PER_PAGE: Final = 1000
_ANSWER_MARGIN_S: Final = 0.25


def task_ids(texts: Sequence[str]) -> list[TaskId]:
    """Up to a thousand ids. Raises InvalidField, TooManyItems."""
    if len(texts) > MOST_IDS:
        raise TooManyItems(len(texts), MOST_IDS)
    return [fields.task_id(text, f"task_ids[{place}]") for place, text in enumerate(texts)]


def page_size(value: int, default: int) -> int:
    """How many rows a page may have; 0 means the default."""
    if not 0 <= value <= MOST_PER_PAGE:
        raise InvalidField(
            "page_size", value, f"must lie between 1 and {MOST_PER_PAGE}, or be 0 for {default}"
        )
    return value or default


def number_id(text: str, field: str) -> int:
    """The id of a session or a broker."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidField(field, text, "must be an id as the broker gave it")
    return int(text)


def patience_s(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """How long the caller still waits, less the time for a refusal to arrive; None: without limit."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None else max(remaining - _ANSWER_MARGIN_S, 0.0)


def caller(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The connection of a request, which counts as one caller for fair shares."""
    return str(context.peer())
