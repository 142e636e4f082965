"""Tasks that share their terms, as columns: what is checked, stored and given away together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hyrex_broker.domain.assigned import at
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import LaneId, TaskId, Terms

Value = TypeVar("Value")
_NO_LANE: Final = LaneId(0)
TRACE_BYTES: Final = 26
"""Version, trace id, span id, flags (W3C trace context)."""
NO_TRACE: Final = bytes(TRACE_BYTES)
"""What stands in a column of trace contexts for "none"."""


@dataclass(slots=True, eq=False)
class TaskBlock:
    """Validated tasks of the same terms and the same parents. A column of None: no task has such a thing."""

    terms: Terms
    parent_id: TaskId | None
    root_id: TaskId | None
    ids: Sequence[HexId]
    payloads: Sequence[bytes]
    digests: Sequence[int]
    """64 bits over everything submitted, so that "same id, other content" is cheap to see."""
    headers: Sequence[dict[str, str] | None] | None = None
    keys: Sequence[str | None] | None = None
    trace_contexts: Sequence[bytes | None] | None = None
    concurrency_keys: Sequence[str | None] | None = None
    fair_keys: Sequence[str | None] | None = None
    bucket: int = 0
    """The share of their lane that they belong to; known once the engine has parted them."""
    lane: LaneId = _NO_LANE
    """Known once the engine has looked it up."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size_bytes(self) -> int:
        """Of all payloads."""
        return sum(map(len, self.payloads))

    @property
    def may_wait(self) -> bool:
        """True if storing them may wait for another submit, or they for their time or a call from outside:
        they have statements of their own."""
        extras = self.terms.extras
        return self.keys is not None or (extras is not None and (extras.has_times or extras.is_outside))

    @property
    def is_debounced(self) -> bool:
        """True if they may move a task that waits, instead of being stored."""
        extras = self.terms.extras
        return extras is not None and extras.debounce_key is not None


def halves(block: TaskBlock) -> tuple[TaskBlock, TaskBlock]:
    """A block of at least two, cut in the middle."""
    middle = len(block) // 2
    return at_places(block, range(middle)), at_places(block, range(middle, len(block)))


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
        _values(block.concurrency_keys, places),
        _values(block.fair_keys, places),
        block.bucket,
        block.lane,
    )


def without_keys(block: TaskBlock) -> tuple[Sequence[int], Sequence[int]]:
    """The places of tasks that have no idempotency key, and of those that have one."""
    return _parted(block.keys, len(block))


def without_concurrency_keys(block: TaskBlock) -> tuple[Sequence[int], Sequence[int]]:
    """The places of tasks that have no concurrency key, and of those that have one."""
    return _parted(block.concurrency_keys, len(block))


def _parted(keys: Sequence[str | None] | None, count: int) -> tuple[Sequence[int], Sequence[int]]:
    if keys is None:
        return range(count), ()
    return (
        [place for place, key in enumerate(keys) if key is None],
        [place for place, key in enumerate(keys) if key is not None],
    )


def _values(column: Sequence[Value] | None, places: Sequence[int]) -> Sequence[Value] | None:
    return None if column is None else [column[place] for place in places]


@dataclass(slots=True, eq=False)
class TaskBatch:
    """Blocks put together for one statement, in the order of their ids.

    A column has no value (none of the tasks has such a thing), one (all share it), or one for each task; ids,
    payloads and digests have one for each.
    """

    ids: Sequence[HexId]
    payloads: Sequence[bytes]
    digests: Sequence[int]
    lanes: Sequence[LaneId]
    terms: Sequence[Terms]
    parents: Sequence[TaskId | None]
    roots: Sequence[TaskId | None]
    headers: Sequence[dict[str, str] | None]
    keys: Sequence[str | None]
    trace_contexts: Sequence[bytes | None]
    concurrency_keys: Sequence[str | None] = ()
    fair_keys: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def may_wait(self) -> bool:
        """True if this holds of one of them; see `TaskBlock.may_wait`."""
        if self.keys and self.keys.count(None) < len(self.keys):
            return True
        extras = [each.extras for each in self.terms if each.extras is not None]
        return any(each.has_times or each.is_outside for each in extras)

    def at(self, places: Sequence[int]) -> "TaskBatch":
        """The tasks at these places."""
        return TaskBatch(
            [self.ids[place] for place in places],
            [self.payloads[place] for place in places],
            [self.digests[place] for place in places],
            at(self.lanes, places),
            at(self.terms, places),
            at(self.parents, places),
            at(self.roots, places),
            at(self.headers, places),
            at(self.keys, places),
            at(self.trace_contexts, places),
            at(self.concurrency_keys, places),
            at(self.fair_keys, places),
        )


def stretched(column: Sequence[Value], count: int) -> Sequence[Value]:
    """A column of one value as one with a value for each; others as they are."""
    return [column[0]] * count if len(column) == 1 else column


def batch_of(blocks: Sequence[TaskBlock]) -> TaskBatch:
    """Blocks as one; ids that come twice come twice in it."""
    batch = _single(blocks[0]) if len(blocks) == 1 else _several(blocks)
    if len(batch.ids) == 1 or batch.ids == sorted(batch.ids):
        return batch
    return batch.at(order_of(blocks))


def _single(block: TaskBlock) -> TaskBatch:
    return TaskBatch(
        list(block.ids),
        block.payloads,
        block.digests,
        [block.lane],
        [block.terms],
        [block.parent_id],
        [block.root_id],
        block.headers or (),
        block.keys or (),
        block.trace_contexts or (),
        block.concurrency_keys or (),
        block.fair_keys or (),
    )


def _several(blocks: Sequence[TaskBlock]) -> TaskBatch:
    return TaskBatch(
        _joined([block.ids for block in blocks]),
        _joined([block.payloads for block in blocks]),
        _joined([block.digests for block in blocks]),
        _shared([block.lane for block in blocks], blocks),
        _shared([block.terms for block in blocks], blocks),
        _shared([block.parent_id for block in blocks], blocks),
        _shared([block.root_id for block in blocks], blocks),
        _own([block.headers for block in blocks], blocks),
        _own([block.keys for block in blocks], blocks),
        _own([block.trace_contexts for block in blocks], blocks),
        _own([block.concurrency_keys for block in blocks], blocks),
        _own([block.fair_keys for block in blocks], blocks),
    )


def order_of(blocks: Sequence[TaskBlock]) -> list[int]:
    """For each place of the blocks' batch, the place at which its task came: equal ids stay as they came."""
    ids = _joined([block.ids for block in blocks])
    return sorted(range(len(ids)), key=ids.__getitem__)


def first_ones(batch: TaskBatch) -> TaskBatch:
    """The batch without repetitions of an id: of equal ones the first that came stays."""
    ids = batch.ids
    if len(set(ids)) == len(ids):
        return batch
    return batch.at([place for place in range(len(ids)) if not place or ids[place] != ids[place - 1]])


def beside(batch: TaskBatch, stored: set[HexId]) -> list[int]:
    """The places of all but the first tasks with these ids."""
    ids = batch.ids
    return [
        place
        for place, digits in enumerate(ids)
        if digits not in stored or (place and digits == ids[place - 1])
    ]


def pairs_of(batch: TaskBatch) -> Iterable[tuple[LaneId, Terms]]:
    """Lane and terms of the tasks, once where all share both."""
    if len(batch.lanes) == len(batch.terms) == 1:
        return [(batch.lanes[0], batch.terms[0])]
    count = len(batch)
    return zip(stretched(batch.lanes, count), stretched(batch.terms, count), strict=True)


def _joined(columns: Sequence[Sequence[Value]]) -> list[Value]:
    return list(columns[0]) if len(columns) == 1 else [value for column in columns for value in column]


def _shared(values: Sequence[Value], blocks: Sequence[TaskBlock]) -> list[Value]:
    """A column of what the tasks of a block share: one value where all blocks do."""
    first = values[0]
    if all(value is first or value == first for value in values):
        return [first]
    return [value for value, block in zip(values, blocks, strict=True) for _ in block.ids]


def _own(columns: Sequence[Sequence[Value | None] | None], blocks: Iterable[TaskBlock]) -> list[Value | None]:
    """A column of what each task has of its own; empty where none has anything."""
    if all(column is None for column in columns):
        return []
    parts = zip(columns, blocks, strict=True)
    return [value for column, block in parts for value in (column or [None] * len(block))]
