"""Checks of single fields, shared by the servicers. Each raises InvalidField with the remedy."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.model import TaskId

NAME_BYTES: Final = 255
HIGHEST_INTEGER: Final = 2**31 - 1
LONGEST_MS: Final = 10 * 366 * 24 * 3600 * 1000


def integer(value: int, field: str, least: int, most: int) -> int:
    """A number within its bounds."""
    if not least <= value <= most:
        raise InvalidField(field, value, f"must lie between {least} and {most}")
    return value


def task_id(text: str, field: str = "task_id") -> TaskId:
    """A UUID in canonical text form (upper case is accepted and lowered)."""
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
        try:
            if len(bytes.fromhex(text.replace("-", ""))) == 16:
                return TaskId(text.lower())
        except ValueError:
            pass
    raise InvalidField(field, text, "must be a UUID in its canonical text form")


def name(text: str, field: str) -> str:
    """A name of 1..255 bytes without NUL."""
    if not text or "\0" in text or len(text.encode()) > NAME_BYTES:
        raise InvalidField(field, text, f"must have 1 to {NAME_BYTES} bytes of UTF-8 and no NUL")
    return text


def short_text(text: str, field: str, limit: int = NAME_BYTES) -> str | None:
    """A text that may be empty (None then), of at most `limit` bytes, without NUL."""
    if "\0" in text or len(text.encode()) > limit:
        raise InvalidField(field, text, f"must have at most {limit} bytes of UTF-8 and no NUL")
    return text or None


def milliseconds(value: Duration, field: str, *, least: int) -> int:
    """A duration in whole milliseconds, at least `least`, at most ten years."""
    total = value.seconds * 1000 + -(-value.nanos // 1_000_000)
    if not least <= total <= LONGEST_MS:
        raise InvalidField(field, f"{total / 1000} s", f"must lie between {least / 1000} s and ten years")
    return total


def moment(value: Timestamp, field: str) -> datetime:
    """A point in time that Postgres and Python can hold."""
    try:
        found = value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, value.seconds, "must be a valid timestamp") from None
    if not 1970 <= found.year <= 2200:
        raise InvalidField(field, found.isoformat(), "must lie between the years 1970 and 2200")
    return found


def texts(values: "dict[str, str]", field: str, limit_bytes: int) -> dict[str, str]:
    """A map of texts without NUL, of a limited size."""
    size = 0
    for key, value in values.items():
        size += len(key.encode()) + len(value.encode())
        if not key or "\0" in key or "\0" in value:
            raise InvalidField(f"{field}[{key!r}]", value, "keys must not be empty, and NUL is not allowed")
    if size > limit_bytes:
        raise InvalidField(field, f"{size} bytes", f"must have at most {limit_bytes} bytes in all")
    return values
