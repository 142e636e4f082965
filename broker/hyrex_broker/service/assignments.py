"""Assigned blocks as frames of Assignments."""

from collections.abc import Mapping, Sequence
from typing import Final

from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain.assigned import AssignedBlock, each
from hyrex_broker.domain.ids import packed
from hyrex_broker.domain.model import priority_of
from hyrex_broker.domain.node_runs import NodeRun
from hyrex_broker.service import times

FRAME_RUNS: Final = 1000
_RUN_BYTES: Final = 100
"""What a run takes beside its payload and headers, with all columns."""
_GROUP_BYTES: Final = 1100
"""What a group takes beside its runs: names and types have 255 bytes at the most."""

Frame = tuple[wire.WorkResponse, int]


def frames(blocks: Sequence[AssignedBlock], most_bytes: int) -> list[Frame]:
    """Frames with their sizes, which are at most `most_bytes` each unless one holds a single run."""
    made: list[Frame] = []
    frame, size, count = wire.WorkResponse(), 0, 0
    for block in blocks:
        costs, start = _costs(block), 0
        while start < len(block):
            stop = _fitting(costs, start, most_bytes - size - _GROUP_BYTES, FRAME_RUNS - count)
            if stop == start and count:
                made.append((frame, size))
                frame, size, count = wire.WorkResponse(), 0, 0
                continue
            stop = max(stop, start + 1)
            _fill(frame.assignments.groups.add(), block.part(start, stop))
            size += _GROUP_BYTES + sum(costs[start:stop])
            count += stop - start
            start = stop
    made.append((frame, size))
    return made


def _costs(block: AssignedBlock) -> list[int]:
    costs = [len(payload) + _RUN_BYTES for payload in block.payloads]
    if block.headers:
        shared = len(block.headers) == 1
        sizes = [_header_bytes(own) if own else 0 for own in block.headers]
        sizes *= len(costs) if shared else 1
        costs = [cost + size for cost, size in zip(costs, sizes, strict=True)]
    if block.nodes:
        of_nodes = each(block.nodes, len(costs), None)
        costs = [cost + (node.size_bytes if node else 0) for cost, node in zip(costs, of_nodes, strict=True)]
    return costs


def _header_bytes(headers: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) + 8 for key, value in headers.items())


def _fitting(costs: Sequence[int], start: int, most_bytes: int, most: int) -> int:
    """Where the runs end, from `start` on, that have no more bytes than that together."""
    last = min(start + most, len(costs))
    if sum(costs[start:last]) <= most_bytes:
        return last
    total = 0
    for place in range(start, last):
        total += costs[place]
        if total > most_bytes:
            return place
    return last


def _fill(group: wire.AssignmentGroup, block: AssignedBlock) -> None:
    terms = block.terms
    group.name, group.queue = terms.name, terms.queue
    group.max_retries, group.priority, group.alone = terms.max_retries, priority_of(terms.rank), terms.alone
    if terms.timeout_ms is not None:
        group.timeout.CopyFrom(times.duration(terms.timeout_ms))
    for name, value in terms.carried.given().items():
        setattr(group, name, value)
    group.task_ids = packed(block.task_ids)
    group.tokens.extend(block.tokens)
    group.payloads.extend(block.payloads)
    group.run_numbers.extend(block.run_numbers)
    group.attempt_numbers.extend(block.attempt_numbers)
    group.submitted_at_us.extend(block.submitted_us)
    if block.parent_ids:
        group.parent_ids = packed(block.parent_ids)
    if block.root_ids:
        group.root_ids = packed(block.root_ids)
    add = group.headers.add
    for headers in block.headers:
        added = add()
        if headers:
            added.headers.update(headers)
    group.expires_in_ms.extend(block.expires_in_ms)
    for node in block.nodes:
        _fill_node(group.nodes.add(), node)
    if block.trace_contexts:
        group.trace_contexts = b"".join(block.trace_contexts)


def _fill_node(message: wire.NodeRun, node: NodeRun | None) -> None:
    if node is None:
        return
    message.workflow, message.node, message.payload = node.workflow, node.node, node.payload
    message.content_type, message.codec = node.content_type or "", node.codec or ""
    for result in node.results:
        message.results.add(
            parameter=result.parameter,
            result=result.result,
            content_type=result.content_type or "",
            task_name=result.task_name,
        )
