"""Tasks that share their terms, as columns: what is checked, stored and given away together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import TaskId, Terms

Value = TypeVar("Value")


@dataclass(slots=True, eq=False)
class TaskBlock:
    """Validated tasks of the same terms and the same parents. A column of None: no task has such a thing."""

    terms: Terms
    parent_id: TaskId | None
    root_id: TaskId | None
    ids: Sequence[HexId]
    payloads: Sequence[bytes]
    digests: Sequence[int]
    headers: Sequence[dict[str, str] | None] | None = None
    keys: Sequence[str | None] | None = None
    trace_contexts: Sequence[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def at_places(block: TaskBlock, places: Sequence[int]) -> TaskBlock:
    """The tasks at these places of a block."""
    return TaskBlock(
        block.terms,
        block.parent_id,
        block.root_id,
        [block.ids[place] for place in places],
        [block.payloads[place] for place in places],
        [block.digests[place] for place in places],
        _values(block.headers, places),
        _values(block.keys, places),
        _values(block.trace_contexts, places),
    )


def _values(column: Sequence[Value] | None, places: Sequence[int]) -> Sequence[Value] | None:
    return None if column is None else [column[place] for place in places]
