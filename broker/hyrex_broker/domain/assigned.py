"""Runs that a session was assigned together, as a block of columns.

A column has no value (all runs have the default), one value (all share it), or one for each run: the rule of
hyrex.v1.AssignmentGroup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import NOTHING_CARRIED, CarriedOptions, LaneId, SessionId, Token
from hyrex_broker.domain.node_runs import NodeRun

Value = TypeVar("Value")
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SharedTerms:
    """What the runs of a block have in common, as their worker needs it."""

    name: str
    queue: str
    rank: int
    max_retries: int
    timeout_ms: int | None
    alone: bool = False
    carried: CarriedOptions = NOTHING_CARRIED


@dataclass(slots=True)
class AssignedBlock:
    """Runs with their leases, as they go to a worker; all of one session, lane and statement."""

    session_id: SessionId
    sequence: int
    lane: LaneId
    terms: SharedTerms
    task_ids: Sequence[HexId]
    tokens: Sequence[Token]
    payloads: Sequence[bytes]
    submitted_us: Sequence[int] = ()
    """Unix time in microseconds; a column."""
    run_numbers: Sequence[int] = ()
    attempt_numbers: Sequence[int] = ()
    parent_ids: Sequence[HexId] = ()
    """`ids.ABSENT` where there is none; a column."""
    root_ids: Sequence[HexId] = ()
    headers: Sequence[Headers] = ()
    trace_contexts: Sequence[bytes] = ()
    sizes: Sequence[int] = ()
    """Of payloads that were too large to come along, which are empty here; 0 for the others; a column."""
    expires_in_ms: Sequence[int] = ()
    """What was left at the assign for the run to begin; 0 for ever; a column."""
    nodes: Sequence[NodeRun | None] = ()
    """Of nodes of workflows: what they are given besides; a column."""

    def __len__(self) -> int:
        return len(self.task_ids)

    def part(self, start: int, stop: int) -> "AssignedBlock":
        """Some runs that follow one another."""
        if start == 0 and stop >= len(self):
            return self
        return self.taking(range(start, min(stop, len(self))))

    def taking(self, places: Sequence[int]) -> "AssignedBlock":
        """The runs at these places."""
        return replace(
            self,
            task_ids=[self.task_ids[place] for place in places],
            tokens=[self.tokens[place] for place in places],
            payloads=[self.payloads[place] for place in places],
            submitted_us=at(self.submitted_us, places),
            run_numbers=at(self.run_numbers, places),
            attempt_numbers=at(self.attempt_numbers, places),
            parent_ids=at(self.parent_ids, places),
            root_ids=at(self.root_ids, places),
            headers=at(self.headers, places),
            trace_contexts=at(self.trace_contexts, places),
            sizes=at(self.sizes, places),
            expires_in_ms=at(self.expires_in_ms, places),
            nodes=at(self.nodes, places),
        )


def at(column: Sequence[Value], places: Sequence[int]) -> Sequence[Value]:
    """A column of some runs."""
    return column if len(column) <= 1 else [column[place] for place in places]


def column(values: Sequence[Value], default: Value | None = None) -> Sequence[Value]:
    """The shortest form of a column."""
    first = values[0]
    if values.count(first) < len(values):
        return values
    return () if first == default else (first,)


def each(column: Sequence[Value], count: int, default: Value) -> Sequence[Value]:
    """A column with one value for each of its runs."""
    if len(column) == count:
        return column
    return [column[0] if column else default] * count
