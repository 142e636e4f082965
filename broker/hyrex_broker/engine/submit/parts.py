"""Which tasks of a submitted block are stored by one statement, and in which lane."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hyrex_broker.domain.blocks import TaskBlock, at_places, without_concurrency_keys, without_keys
from hyrex_broker.engine.submit.keyed import FairKey, fair_keys_of
from hyrex_broker.storage.lanes import LaneKey


@dataclass(frozen=True, slots=True)
class BlockPart:
    """Tasks of a submitted block that are stored together, and where they stand in it."""

    number: int
    places: Sequence[int]
    block: TaskBlock


def parted(whole: BlockPart) -> Iterator[BlockPart]:
    """A part's tasks; those with idempotency keys apart from the others, unless one statement stores both."""
    block = whole.block
    if block.concurrency_keys is not None:
        yield whole
        return
    plain, keyed = without_keys(block)
    if not (plain and keyed):
        block.keys = block.keys if keyed else None
        yield whole
        return
    for places in (plain, keyed):
        part = at_places(block, places)
        part.keys = part.keys if places is keyed else None
        yield BlockPart(whole.number, [whole.places[place] for place in places], part)


def by_lane(number: int, block: TaskBlock, bucket_of: Mapping[FairKey, int]) -> Iterator[BlockPart]:
    """A block's tasks, those of each lane apart from the others. `bucket_of`: of each fair key."""
    whole = BlockPart(number, range(len(block)), block)
    if block.concurrency_keys is None and block.fair_keys is None:
        yield whole
        return
    for part in _by_bucket(whole, bucket_of):
        yield from _by_concurrency_key(part)


def _by_bucket(whole: BlockPart, bucket_of: Mapping[FairKey, int]) -> Iterator[BlockPart]:
    if whole.block.fair_keys is None:
        yield whole
        return
    parts: dict[int, list[int]] = {}
    for place, key in enumerate(fair_keys_of(whole.block)):
        parts.setdefault(0 if key is None else bucket_of[key], []).append(place)
    for bucket, places in parts.items():
        part = whole if len(parts) == 1 else BlockPart(whole.number, places, at_places(whole.block, places))
        part.block.bucket = bucket
        yield part


def _by_concurrency_key(whole: BlockPart) -> Iterator[BlockPart]:
    if whole.block.concurrency_keys is None:
        yield whole
        return
    plain, keyed = without_concurrency_keys(whole.block)
    for places in (plain, keyed):
        if places:
            part = at_places(whole.block, places)
            part.concurrency_keys = part.concurrency_keys if places is keyed else None
            yield BlockPart(whole.number, [whole.places[place] for place in places], part)


def lane_of(block: TaskBlock) -> LaneKey:
    """The lane of tasks of one bucket of which all have concurrency keys, or none."""
    terms = block.terms
    return LaneKey(terms.queue, terms.name, block.concurrency_keys is not None, block.bucket)
