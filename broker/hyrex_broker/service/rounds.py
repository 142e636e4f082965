"""The order in which submitted tasks are stored where an id comes more than once."""

from collections import Counter
from collections.abc import Sequence

from hyrex_broker.domain.blocks import at_places
from hyrex_broker.domain.ids import HexId
from hyrex_broker.service.groups import PlacedBlock


def in_rounds(blocks: Sequence[PlacedBlock]) -> list[list[PlacedBlock]]:
    """Blocks in the order in which they are to be stored: what bears the id of another has to wait for that
    one, since the first of them is the one to be stored."""
    ids = [digits for block, _ in blocks for digits in block.ids]
    if len(set(ids)) == len(ids):
        return [list(blocks)] if blocks else []
    numbers: Counter[HexId] = Counter()
    rounds: dict[int, dict[int, list[int]]] = {}
    every = sorted(
        (place, number, at) for number, (_, places) in enumerate(blocks) for at, place in enumerate(places)
    )
    for _, number, at in every:
        digits = blocks[number][0].ids[at]
        rounds.setdefault(numbers[digits], {}).setdefault(number, []).append(at)
        numbers[digits] += 1
    return [[_part(blocks[number], ats) for number, ats in each.items()] for each in rounds.values()]


def _part(placed: PlacedBlock, ats: Sequence[int]) -> PlacedBlock:
    block, places = placed
    return at_places(block, ats), [places[at] for at in ats]
