"""Answers for submitted tasks: what became of those that were not simply stored now."""

from collections.abc import Mapping, Sequence

from hyrex_broker.domain.blocks import TaskBlock, order_of
from hyrex_broker.domain.errors import BrokerError, TaskIdConflict
from hyrex_broker.domain.ids import HexId, task_id
from hyrex_broker.domain.keys import KeyHit
from hyrex_broker.domain.model import SubmitAnswer, SubmitOutcome
from hyrex_broker.storage.submit import StoredKey

Answer = SubmitAnswer | BrokerError
Others = dict[int, Answer]
"""What became of those tasks of a block that were not simply stored now, by their places in it."""


def joined(block: TaskBlock, first: Others, second: Others) -> Others:
    """The answers for a block, of those for its halves."""
    middle = len(block) // 2
    return first | {middle + place: answer for place, answer in second.items()}


def told(digits: HexId, digest: int, found: StoredKey) -> Answer | None:
    """The answer for a task that was stored before, or is another one by its key."""
    if found.digest is not None:
        text = task_id(digits)
        same = found.digest == digest
        return SubmitAnswer(text, SubmitOutcome.REPEATED) if same else TaskIdConflict(text)
    if found.holder is not None:
        return KeyHit(found.holder.task_id, SubmitOutcome.DEDUPLICATED, found.holder)
    return None


def by_block(blocks: Sequence[TaskBlock], answers: Mapping[int, Answer]) -> list[Others]:
    """Answers by their places in a batch of some blocks, as answers for each block."""
    every = [(number, place) for number, block in enumerate(blocks) for place in range(len(block))]
    others: list[Others] = [{} for _ in blocks]
    for place, came in enumerate(order_of(blocks)):
        if place in answers:
            number, own = every[came]
            others[number][own] = answers[place]
    return others
