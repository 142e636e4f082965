"""Checks of requests as a whole: lists of ids, page sizes, page tokens."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import grpc.aio

from hyrex_broker.domain.errors import InvalidField, PageTokenInvalid, TooManyItems
from hyrex_broker.domain.model import TaskId
from hyrex_broker.service import fields

MOST_IDS: Final = 1000
MOST_PER_PAGE: Final = 1000
_DIGEST_BYTES: Final = 8
_LONGEST_TOKEN: Final = 1024
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


def page_token(cursor: str | None, filters: Iterable[object]) -> str:
    """A token that continues after the cursor, valid for these filters only; "" on the last page."""
    if cursor is None:
        return ""
    return base64.urlsafe_b64encode(_digest(filters) + cursor.encode()).decode()


def cursor(token: str, filters: Iterable[object]) -> str | None:
    """The cursor of a token; None without a token. Raises PageTokenInvalid."""
    if not token:
        return None
    digest, found = _read_token(token)
    if digest != _digest(filters):
        raise PageTokenInvalid("page_token belongs to a list with other filters; begin again without it")
    return found


def not_ours(field: str = "page_token") -> PageTokenInvalid:
    """The refusal of a token that no broker has made."""
    return PageTokenInvalid(f"{field} was not made by a broker; begin again without it")


def _read_token(token: str) -> tuple[bytes, str]:
    try:
        made = base64.b64decode(token[:_LONGEST_TOKEN].encode(), altchars=b"-_", validate=True)
        found = made[_DIGEST_BYTES:].decode()
    except ValueError:
        found = ""
    if not found or "\0" in found or len(token) > _LONGEST_TOKEN:
        raise not_ours()
    return made[:_DIGEST_BYTES], found


def _digest(filters: Iterable[object]) -> bytes:
    text = json.dumps([repr(value) for value in filters])
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
