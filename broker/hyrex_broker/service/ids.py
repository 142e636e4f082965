"""Ids of tasks that may be stored: UUIDs of version 7, made within the accepted times."""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from hyrex_broker.domain.errors import BrokerError, InvalidField, TaskIdOutOfWindow
from hyrex_broker.domain.ids import ID_BYTES, HexId, task_id
from hyrex_broker.service import fields

_OLDEST_MS: Final = 24 * 3600 * 1000
_NEWEST_MS: Final = 60 * 1000
_VERSION_AT: Final = 12
_TIME_DIGITS: Final = 12


def packed_id(text: str) -> bytes:
    """The 16 bytes of an id in canonical text form. Raises InvalidField."""
    return bytes.fromhex(fields.task_id(text).replace("-", ""))


def unusual_ids(ids: Sequence[HexId]) -> Iterator[tuple[int, BrokerError]]:
    """Why ids (hex texts) may not be stored, by place. Looked at as a column, a tenth of the cost of one by
    one, and one by one only where that shows something."""
    now_ms = int(time.time() * 1000)
    oldest, newest = now_ms - _OLDEST_MS, now_ms + _NEWEST_MS
    versions = "".join(ids)[_VERSION_AT :: 2 * ID_BYTES]
    if versions == "7" * len(ids) and oldest < _made_ms(min(ids)) and _made_ms(max(ids)) < newest:
        return
    for place, hex_id in enumerate(ids):
        if hex_id[_VERSION_AT] != "7":
            yield place, InvalidField("task_id", task_id(hex_id), "must be a UUID of version 7")
        elif not oldest < _made_ms(hex_id) < newest:
            yield place, TaskIdOutOfWindow(task_id(hex_id), now_ms)


def _made_ms(hex_id: HexId) -> int:
    """When an id was made, by the clock of whoever made it (Unix time)."""
    return int(hex_id[:_TIME_DIGITS], 16)
