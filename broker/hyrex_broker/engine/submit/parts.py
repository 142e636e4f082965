"""Which tasks of a submitted block are stored by one statement, and in which lane."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hyrex_broker.domain.blocks import TaskBlock, at_places, without_concurrency_keys, without_keys
from hyrex_broker.storage.lanes import LaneKey


@dataclass(frozen=True, slots=True)
class BlockPart:
    """Tasks of a submitted block that are stored together, and where they stand in it."""

    number: int
    places: Sequence[int]
    block: TaskBlock


def parted(whole: BlockPart) -> Iterator[BlockPart]:
    """A part's tasks; those with idempotency keys apart from the others."""
    block = whole.block
    plain, keyed = without_keys(block)
    if not (plain and keyed):
        block.keys = block.keys if keyed else None
        yield whole
        return
    for places in (plain, keyed):
        part = at_places(block, places)
        part.keys = part.keys if places is keyed else None
        yield BlockPart(whole.number, [whole.places[place] for place in places], part)


def by_lane(number: int, block: TaskBlock) -> Iterator[BlockPart]:
    """A block's tasks; those with concurrency keys apart from the others, since they have another lane."""
    if block.concurrency_keys is None:
        yield BlockPart(number, range(len(block)), block)
        return
    plain, keyed = without_concurrency_keys(block)
    for places in (plain, keyed):
        if places:
            part = at_places(block, places)
            part.concurrency_keys = part.concurrency_keys if places is keyed else None
            yield BlockPart(number, places, part)


def lane_of(block: TaskBlock) -> LaneKey:
    """The lane of tasks of which all have concurrency keys, or none."""
    return LaneKey(block.terms.queue, block.terms.name, block.concurrency_keys is not None)
