"""Runs to execute, one by one and as blocks of columns: what the stream process gives to its children.

A column of a block has no value (all runs have the default), one value (all share it), or one for each run:
the rule of hyrex.v1.AssignmentGroup. Ids are packed, 16 bytes each; zeros mean none.
"""

from collections.abc import Sequence
from operator import attrgetter
from struct import unpack
from typing import Final, TypeVar
from uuid import UUID

from msgspec import Struct
from msgspec.structs import asdict

from hyrex.worker.shared.outcome import ErrorInfo

ID_BYTES: Final = 16
_ABSENT: Final = bytes(ID_BYTES)

Value = TypeVar("Value")


class RunTerms(Struct, frozen=True, array_like=True, gc=False):
    """What the runs of a block share. Empty strings and 0 mean absent.

    All but the last have the name and the form that they have in AssignmentGroup (`stream/columns.py`).
    """

    name: str
    queue: str
    max_retries: int = 0
    priority: int = 5
    alone: bool = False
    content_type: str = ""
    codec: str = ""
    timeout_ns: int = 0


_terms_of = attrgetter(*RunTerms.__struct_fields__)


class Run(RunTerms, frozen=True, kw_only=True, gc=False):
    """A run to execute, with its lease's token. Empty strings and 0 mean absent."""

    token: int
    task_id: str
    payload: bytes
    run_number: int = 0
    attempt_number: int = 0
    parent_id: str = ""
    root_id: str = ""
    submitted_ns: int = 0
    headers: dict[str, str] | None = None
    told: ErrorInfo | None = None  # its outcome is settled: only its error handler is to hear of this


class RunBlock(Struct, array_like=True):
    """Runs that share their terms, in order."""

    terms: RunTerms
    tokens: list[int]
    task_ids: bytes
    payloads: list[bytes]
    run_numbers: list[int] = []
    attempt_numbers: list[int] = []
    parent_ids: bytes = b""
    root_ids: bytes = b""
    submitted_us: list[int] = []
    headers: list[dict[str, str] | None] = []
    told: ErrorInfo | None = None  # as in Run, of a block of one

    def __len__(self) -> int:
        """How many runs."""
        return len(self.tokens)

    def ids(self) -> Sequence[bytes]:
        """The packed id of each task."""
        return unpack(f"{ID_BYTES}s" * len(self.tokens), self.task_ids)

    def part(self, start: int, stop: int) -> "RunBlock":
        """Some runs that follow one another."""
        at = slice(start, stop)
        packed = slice(start * ID_BYTES, stop * ID_BYTES)
        return RunBlock(
            self.terms,
            self.tokens[at],
            self.task_ids[packed],
            self.payloads[at],
            _cut(self.run_numbers, at),
            _cut(self.attempt_numbers, at),
            self.parent_ids if len(self.parent_ids) <= ID_BYTES else self.parent_ids[packed],
            self.root_ids if len(self.root_ids) <= ID_BYTES else self.root_ids[packed],
            _cut(self.submitted_us, at),
            _cut(self.headers, at),
            self.told,
        )

    def taking(self, places: Sequence[int]) -> "RunBlock":
        """The runs at these places."""
        return RunBlock(
            self.terms,
            [self.tokens[place] for place in places],
            _taken_ids(self.task_ids, places),
            [self.payloads[place] for place in places],
            _taken(self.run_numbers, places),
            _taken(self.attempt_numbers, places),
            self.parent_ids if len(self.parent_ids) <= ID_BYTES else _taken_ids(self.parent_ids, places),
            self.root_ids if len(self.root_ids) <= ID_BYTES else _taken_ids(self.root_ids, places),
            _taken(self.submitted_us, places),
            _taken(self.headers, places),
            self.told,
        )

    def run(self, place: int) -> Run:
        """One of them."""
        task_id = _id(self.task_ids, place)
        return Run(
            token=self.tokens[place],
            task_id=task_id,
            payload=self.payloads[place],
            run_number=_value(self.run_numbers, place, 0),
            attempt_number=_value(self.attempt_numbers, place, 0),
            parent_id=_id(self.parent_ids, place),
            root_id=_id(self.root_ids, place) or task_id,
            submitted_ns=_value(self.submitted_us, place, 0) * 1000,
            headers=_value(self.headers, place, None),
            told=self.told,
            **asdict(self.terms),
        )


def block_of(run: Run) -> RunBlock:
    """A block of one run."""
    return RunBlock(
        RunTerms(*_terms_of(run)),
        tokens=[run.token],
        task_ids=_packed(run.task_id),
        payloads=[run.payload],
        run_numbers=[run.run_number],
        attempt_numbers=[run.attempt_number],
        parent_ids=_packed(run.parent_id),
        root_ids=_packed(run.root_id),
        submitted_us=[run.submitted_ns // 1000],
        headers=[run.headers],
        told=run.told,
    )


def _packed(task_id: str) -> bytes:
    return UUID(task_id).bytes if task_id else b""


def _id(packed: bytes, place: int) -> str:
    start = 0 if len(packed) <= ID_BYTES else place * ID_BYTES
    found = packed[start : start + ID_BYTES]
    return "" if not found or found == _ABSENT else str(UUID(bytes=found))


def _value(column: Sequence[Value], place: int, default: Value) -> Value:
    if not column:
        return default
    return column[0] if len(column) == 1 else column[place]


def _cut(column: list[Value], at: slice) -> list[Value]:
    return column if len(column) <= 1 else column[at]


def _taken(column: list[Value], places: Sequence[int]) -> list[Value]:
    return column if len(column) <= 1 else [column[place] for place in places]


def _taken_ids(packed: bytes, places: Sequence[int]) -> bytes:
    return b"".join([packed[place * ID_BYTES : (place + 1) * ID_BYTES] for place in places])
