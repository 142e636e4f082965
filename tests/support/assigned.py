"""Assigned blocks run by run, as tests look at them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hyrex_broker.domain import ids
from hyrex_broker.domain.assigned import AssignedBlock, each
from hyrex_broker.domain.model import LaneId, SessionId, TaskId, Token
from hyrex_broker.domain.node_runs import NodeRun


@dataclass
class AssignedRun:
    """One run with its lease."""

    task_id: TaskId
    token: Token
    session_id: SessionId
    sequence: int
    lane: LaneId
    name: str
    queue: str
    payload: bytes
    content_type: str | None
    codec: str | None
    headers: Mapping[str, str]
    run_number: int
    attempt_number: int
    max_retries: int
    rank: int
    timeout_ms: int | None
    parent_id: TaskId | None
    root_id: TaskId | None
    submitted_us: int
    alone: bool
    size: int
    trace_context: bytes
    node: NodeRun | None = None


def runs_of(blocks: Iterable[AssignedBlock]) -> list[AssignedRun]:
    """The runs of some blocks, in their order."""
    return [run for block in blocks for run in _runs(block)]


def _runs(block: AssignedBlock) -> list[AssignedRun]:
    terms, count = block.terms, len(block)
    columns = zip(
        block.task_ids, block.tokens, block.payloads, each(block.headers, count, {}),
        each(block.run_numbers, count, 0), each(block.attempt_numbers, count, 0),
        each(block.parent_ids, count, ids.ABSENT), each(block.root_ids, count, ids.ABSENT),
        each(block.submitted_us, count, 0), each(block.sizes, count, 0),
        each(block.trace_contexts, count, b""), each(block.nodes, count, None), strict=True,
    )  # fmt: skip
    return [
        AssignedRun(
            ids.task_id(digits), token, block.session_id, block.sequence, block.lane, terms.name, terms.queue,
            payload, terms.carried.content_type, terms.carried.codec, headers, number, attempt_number,
            terms.max_retries, terms.rank, terms.timeout_ms, _relative(parent), _relative(root), submitted_us,
            terms.alone, size, trace, node,
        )
        for digits, token, payload, headers, number, attempt_number, parent, root, submitted_us, size, trace,
            node in columns
    ]  # fmt: skip


def _relative(digits: ids.HexId) -> TaskId | None:
    return None if digits == ids.ABSENT else ids.task_id(digits)
