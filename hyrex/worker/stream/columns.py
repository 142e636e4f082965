"""Groups of runs on the wire: assigned ones to blocks, and runs that returned to columns."""

from collections.abc import Sequence, Sized
from operator import attrgetter
from typing import Final

from hyrex.backend.origin import TRACE_BYTES
from hyrex.options import DURATION_LIMIT_S
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.worker.shared.memory import boottime_ns
from hyrex.worker.shared.runs import ID_BYTES, NodeOfRun, RunBlock, RunTerms
from hyrex.worker.stream.reports import FinishedRuns

LONGEST_NS: Final = int(DURATION_LIMIT_S * 1e9)
_LONGEST_US: Final = LONGEST_NS // 1000
_same_in_groups = attrgetter(*RunTerms.__struct_fields__[:-1])  # by name it would take three times as long


def block_from(group: wire.AssignmentGroup) -> RunBlock:
    """The runs of a group. Raises: ValueError if its columns do not fit each other."""
    block = RunBlock(
        _terms(group),
        list(group.tokens),
        group.task_ids,
        list(group.payloads),
        list(group.run_numbers),
        list(group.attempt_numbers),
        group.parent_ids,
        group.root_ids,
        list(group.submitted_at_us),
        [dict(each.headers) or None for each in group.headers],
        group.trace_contexts,
        _latest_begins(group.expires_in_ms),
        nodes=[_node(each) for each in group.nodes],
    )
    _check(block)
    return block


def fill_finished(told: wire.CompletedRuns, finished: Sequence[FinishedRuns]) -> None:
    """Fill in runs that returned."""
    told.task_ids = b"".join([task_id for runs in finished for task_id in runs.task_ids])
    for runs in finished:
        told.tokens.extend(runs.tokens)
        told.results.extend(runs.results)
        told.elapsed_us.extend(_believable(runs.elapsed_us))


def _latest_begins(expires_in_ms: Sequence[int]) -> list[int]:
    """Until when runs may begin, by this machine's clock: the time that was left counts from now on."""
    if not expires_in_ms:
        return []
    now_ns = boottime_ns()
    return [now_ns + left * 1_000_000 if left else 0 for left in expires_in_ms]


def _node(told: wire.NodeRun) -> NodeOfRun | None:
    """The node of a workflow that a run is of; None if it is of none."""
    if not told.node:
        return None
    results = tuple((each.parameter, each.result, each.task_name) for each in told.results)
    return NodeOfRun(told.workflow, told.node, results, told.payload, told.codec)


def _terms(group: wire.AssignmentGroup) -> RunTerms:
    timeout_ns = 0
    if group.HasField("timeout"):
        timeout_ns = group.timeout.seconds * 1_000_000_000 + group.timeout.nanos
    return RunTerms(*_same_in_groups(group), timeout_ns)  # type: ignore[call-arg]  # how many is not typed


def _check(block: RunBlock) -> None:
    count = len(block.tokens)
    if len(block.payloads) != count or len(block.task_ids) != ID_BYTES * count:
        payloads = len(block.payloads)
        raise ValueError(f"{len(block.task_ids)} bytes of ids and {payloads} payloads for {count} runs")
    columns: list[Sized] = [
        block.run_numbers,
        block.attempt_numbers,
        block.submitted_us,
        block.headers,
        block.begins_by_ns,
        block.nodes,
    ]
    for column in columns:
        if len(column) not in (0, 1, count):
            raise ValueError(f"a column of {len(column)} values for {count} runs")
    for packed in (block.parent_ids, block.root_ids):
        if len(packed) not in (0, ID_BYTES, ID_BYTES * count):
            raise ValueError(f"ids of {len(packed)} bytes for {count} runs")
    if len(block.trace_contexts) not in (0, TRACE_BYTES, TRACE_BYTES * count):
        raise ValueError(f"trace contexts of {len(block.trace_contexts)} bytes for {count} runs")


def _believable(elapsed_us: Sequence[int]) -> Sequence[int]:
    """User code may have set its clock: a time beyond all sense is none."""
    if min(elapsed_us) >= 0 and max(elapsed_us) <= _LONGEST_US:
        return elapsed_us
    return [took if 0 <= took <= _LONGEST_US else 0 for took in elapsed_us]
