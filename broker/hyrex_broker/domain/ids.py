"""Ids of tasks in their three forms: text for people and single tasks, 32 hexadecimal digits inside blocks,
16 packed bytes on the wire.

A block turns from packed bytes into digits and back with one call for all of its ids; the text form has to be
made for each id (0.4 us), so it is left to what is done seldom.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NewType, cast
from uuid import UUID

from hyrex_broker.domain.model import TaskId

HexId = NewType("HexId", str)
"""The 32 hexadecimal digits of an id, in lower case."""

ID_BYTES: Final = 16
ABSENT: Final = HexId("0" * 32)
"""What stands in a column of ids for "none"."""

LAST: Final = TaskId("ffffffff-ffff-ffff-ffff-ffffffffffff")
"""After every task's."""


def lowest_id(unix_s: float) -> TaskId:
    """The lowest id of a moment: 48 bits of Unix milliseconds, then zeros."""
    milliseconds = min(max(int(unix_s * 1000), 0), 2**48 - 1)
    return TaskId(str(UUID(int=milliseconds << 80)))


def hex_id(task_id: TaskId) -> HexId:
    """The digits of an id."""
    return HexId(task_id.replace("-", ""))


def task_id(digits: HexId) -> TaskId:
    """The text form of an id."""
    return TaskId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


def unpacked(packed: bytes) -> list[HexId]:
    """Ids from their bytes, of which there are 16 for each."""
    return cast("list[HexId]", packed.hex(",", ID_BYTES).split(",")) if packed else []


def packed(ids: Iterable[HexId]) -> bytes:
    """Ids as bytes, one after the other."""
    return bytes.fromhex("".join(ids))


def hex_ids(task_ids: Sequence[TaskId]) -> list[HexId]:
    """The digits of many ids."""
    return cast("list[HexId]", ",".join(task_ids).replace("-", "").split(",")) if task_ids else []
