"""Runs to execute, one by one and as blocks of columns: what the stream process gives to its children.

A column of a block has no value (all runs have the default), one value (all share it), or one for each run:
the rule of hyrex.v1.AssignmentGroup. Ids are packed, 16 bytes each; zeros mean none.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from struct import unpack
from typing import Any, Final, TypeVar
from uuid import UUID

from msgspec import Struct
from msgspec.structs import asdict

from hyrex.backend.origin import TRACE_BYTES
from hyrex.worker.shared.memory import boottime_ns
from hyrex.worker.shared.outcome import ErrorInfo

ID_BYTES: Final = 16

Value = TypeVar("Value")


class NodeOfRun(Struct, frozen=True, array_like=True, gc=False):
    """Which node of a workflow a run is of, and what it is given besides its payload."""

    workflow: str
    node: str
    results: tuple[
        tuple[str, bytes, str], ...
    ] = ()  # parameter, result, the name of the task that returned it
    arguments: bytes = b""  # the workflow's own, as they were sent
    codec: str = ""  # of the workflow's arguments


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
    trace_context: bytes = b""
    begins_by_ns: int = 0
    node: NodeOfRun | None = None
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
    trace_contexts: bytes = b""
    begins_by_ns: list[int] = []  # on the boot clock; 0: whenever
    told: ErrorInfo | None = None  # as in Run, of a block of one
    nodes: list[NodeOfRun | None] = []

    def __len__(self) -> int:
        """How many runs."""
        return len(self.tokens)

    def ids(self) -> Sequence[bytes]:
        """The packed id of each task."""
        return unpack(f"{ID_BYTES}s" * len(self.tokens), self.task_ids)

    def part(self, start: int, stop: int) -> "RunBlock":
        """Some runs that follow one another."""
        return self._of(
            lambda column: column[start:stop], lambda packed, width: packed[start * width : stop * width]
        )

    def taking(self, places: Sequence[int]) -> "RunBlock":
        """The runs at these places."""
        return self._of(
            lambda column: [column[place] for place in places],
            lambda packed, width: b"".join([packed[place * width : (place + 1) * width] for place in places]),
        )

    def _of(
        self, some: Callable[[list[Any]], list[Any]], some_packed: Callable[[bytes, int], bytes]
    ) -> "RunBlock":
        """A block of some of these runs: what all share stays, of other columns it has what they choose."""

        def chosen(column: list[Any]) -> list[Any]:
            return column if len(column) <= 1 else some(column)

        def chosen_packed(packed: bytes, width: int) -> bytes:
            return packed if len(packed) <= width else some_packed(packed, width)

        return RunBlock(
            self.terms,
            some(self.tokens),
            some_packed(self.task_ids, ID_BYTES),
            some(self.payloads),
            chosen(self.run_numbers),
            chosen(self.attempt_numbers),
            chosen_packed(self.parent_ids, ID_BYTES),
            chosen_packed(self.root_ids, ID_BYTES),
            chosen(self.submitted_us),
            chosen(self.headers),
            chosen_packed(self.trace_contexts, TRACE_BYTES),
            chosen(self.begins_by_ns),
            self.told,
            chosen(self.nodes),
        )

    def has_expired(self, place: int) -> bool:
        """Return True if one of them may not begin any more."""
        begins_by_ns = _value(self.begins_by_ns, place, 0)
        return bool(begins_by_ns) and boottime_ns() >= begins_by_ns

    def node(self, place: int) -> NodeOfRun | None:
        """The node that one of them is of."""
        return _value(self.nodes, place, None)

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
            trace_context=_packed_value(self.trace_contexts, place, TRACE_BYTES),
            begins_by_ns=_value(self.begins_by_ns, place, 0),
            node=self.node(place) if self.nodes else None,
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
        trace_contexts=run.trace_context,
        begins_by_ns=[run.begins_by_ns] if run.begins_by_ns else [],
        told=run.told,
        nodes=[run.node] if run.node is not None else [],
    )


def _packed(task_id: str) -> bytes:
    return UUID(task_id).bytes if task_id else b""


def _id(packed: bytes, place: int) -> str:
    found = _packed_value(packed, place, ID_BYTES)
    return str(UUID(bytes=found)) if found else ""


def _packed_value(packed: bytes, place: int, width: int) -> bytes:
    """One value of a packed column; zeros mean none."""
    start = 0 if len(packed) <= width else place * width
    found = packed[start : start + width]
    return found if any(found) else b""


def _value(column: Sequence[Value], place: int, default: Value) -> Value:
    if not column:
        return default
    return column[0] if len(column) == 1 else column[place]
