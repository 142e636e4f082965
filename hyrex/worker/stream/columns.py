"""Groups of runs on the wire: columns to runs, and runs that returned to columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import TypeVar
from uuid import UUID

from hyrex.options import DURATION_LIMIT_S
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.worker.shared.child_messages import Run
from hyrex.worker.shared.outcome import Completed
from hyrex.worker.stream.reports import UnreportedRun

LONGEST_NS = int(DURATION_LIMIT_S * 1e9)
_ID_BYTES = 16
_ABSENT = bytes(_ID_BYTES)

Value = TypeVar("Value")


def runs_from(group: wire.AssignmentGroup) -> Iterator[Run]:
    """The runs of a group. Raises: ValueError if its columns do not fit each other."""
    count = len(group.tokens)
    if len(group.payloads) != count or len(group.task_ids) != _ID_BYTES * count:
        payloads = len(group.payloads)
        raise ValueError(f"{len(group.task_ids)} bytes of ids and {payloads} payloads for {count} runs")
    timeout_ns = 0
    if group.HasField("timeout"):
        timeout_ns = group.timeout.seconds * 1_000_000_000 + group.timeout.nanos
    headers = [dict(each.headers) or None for each in group.headers]
    columns = zip(
        group.tokens,
        _ids(group.task_ids, count),
        group.payloads,
        _column(group.run_numbers, count, 0),
        _column(group.attempt_numbers, count, 0),
        _column(_ids(group.parent_ids, count), count, ""),
        _column(_ids(group.root_ids, count), count, ""),
        _column(group.submitted_at_us, count, 0),
        _column(headers, count, None),
        strict=True,
    )
    for token, task_id, payload, run_number, attempt, parent_id, root_id, submitted_us, told in columns:
        yield Run(  # positional: this is done for every run
            token, task_id, group.name, group.queue, payload, run_number, attempt, group.max_retries,
            group.priority, timeout_ns, parent_id, root_id or task_id, submitted_us * 1000, group.alone,
            group.content_type, group.codec, told,
        )  # fmt: skip


def fill_completed(told: wire.CompletedRuns, runs: Sequence[UnreportedRun]) -> None:
    """Fill in runs that returned."""
    told.task_ids = b"".join([UUID(run.task_id).bytes for run in runs])
    told.tokens.extend([run.ending.token for run in runs])
    told.elapsed_us.extend([_elapsed_us(run.ending.elapsed_ns) for run in runs])
    told.results.extend([_result(run) for run in runs])


def _elapsed_us(elapsed_ns: int | None) -> int:
    """User code may have set its clock: a time beyond all sense is none."""
    return elapsed_ns // 1000 if elapsed_ns is not None and 0 <= elapsed_ns <= LONGEST_NS else 0


def _result(run: UnreportedRun) -> bytes:
    assert isinstance(run.ending.outcome, Completed)
    return run.ending.outcome.result


def _ids(packed: bytes, count: int) -> list[str]:
    if len(packed) not in (0, _ID_BYTES, _ID_BYTES * count):
        raise ValueError(f"ids of {len(packed)} bytes for {count} runs")
    ids = [packed[start : start + _ID_BYTES] for start in range(0, len(packed), _ID_BYTES)]
    return ["" if each == _ABSENT else str(UUID(bytes=each)) for each in ids]


def _column(values: Sequence[Value], count: int, default: Value) -> Sequence[Value] | Iterator[Value]:
    """One value for each run."""
    if len(values) == count:
        return values
    if len(values) > 1:
        raise ValueError(f"a column of {len(values)} values for {count} runs")
    return repeat(values[0] if values else default, count)
