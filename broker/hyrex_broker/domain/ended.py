"""Runs that returned, as a block of columns: reported together, recorded together.

A column has no value (all runs have the default), one value (all share it), or one for each run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hyrex_broker.domain import ids
from hyrex_broker.domain.assigned import at, column, each
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import Outcome, RunEnd, SessionId, Token

Value = TypeVar("Value")
Named = tuple[HexId, Token, SessionId]
"""What a report is about: nobody's word stands for another's, even in one batch."""

UNSTORABLE: Final = "UnstorableResult"
"""The error type of a run whose result the database refuses."""


@dataclass(slots=True, eq=False)
class EndBlock:
    """Runs that returned, with the leases that end by it."""

    task_ids: Sequence[HexId]
    tokens: Sequence[Token]
    results: Sequence[bytes]
    elapsed_us: Sequence[int]
    """A column."""
    session_ids: Sequence[SessionId]
    """Whose leases they are; a column with at least one value."""
    content_types: Sequence[str | None] = ()
    """A column."""

    def __len__(self) -> int:
        return len(self.tokens)

    def taking(self, places: Sequence[int]) -> "EndBlock":
        """The runs at these places."""
        return EndBlock(
            [self.task_ids[place] for place in places],
            [self.tokens[place] for place in places],
            [self.results[place] for place in places],
            at(self.elapsed_us, places),
            at(self.session_ids, places),
            at(self.content_types, places),
        )

    def named(self) -> list[Named]:
        """What each end is about."""
        return [*zip(self.task_ids, self.tokens, self.sessions(), strict=True)]

    def sessions(self) -> Sequence[SessionId]:
        """Whose lease each is."""
        return each(self.session_ids, len(self), self.session_ids[0])

    def failed(self, place: int, error_type: str, message: str) -> RunEnd:
        """One of them, as failed for good since its result cannot be stored."""
        return RunEnd(
            ids.task_id(self.task_ids[place]),
            self.tokens[place],
            self.sessions()[place],
            Outcome.FAILED,
            each(self.elapsed_us, len(self), 0)[place],
            error_type=error_type,
            error_message=message,
            retryable=False,
        )


def halves(block: EndBlock) -> tuple[EndBlock, EndBlock]:
    """Two blocks of about the same size, of one with at least two runs."""
    middle = len(block) // 2
    return block.taking(range(middle)), block.taking(range(middle, len(block)))


def joined(blocks: Sequence[EndBlock]) -> EndBlock:
    """One block in the order of the ids, in which each end that is named twice stands once."""
    whole = blocks[0] if len(blocks) == 1 else _concatenated(blocks)
    if len(whole.tokens) == 1:
        return whole
    if len(set(whole.tokens)) < len(whole):
        firsts = {name: place for place, name in reversed([*enumerate(whole.named())])}
        whole = whole.taking(sorted(firsts.values()))
    task_ids = list(whole.task_ids)
    if task_ids == sorted(task_ids):
        return whole
    return whole.taking(sorted(range(len(task_ids)), key=task_ids.__getitem__))


def _concatenated(blocks: Sequence[EndBlock]) -> EndBlock:
    return EndBlock(
        [value for block in blocks for value in block.task_ids],
        [value for block in blocks for value in block.tokens],
        [value for block in blocks for value in block.results],
        _column([each(block.elapsed_us, len(block), 0) for block in blocks], 0),
        column([value for block in blocks for value in block.sessions()]),
        _column([each(block.content_types, len(block), None) for block in blocks], None),
    )


def _column(parts: Sequence[Sequence[Value]], default: Value) -> Sequence[Value]:
    return column([value for part in parts for value in part], default)
