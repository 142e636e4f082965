"""Runs of groups on the wire, one by one: what a test looks at and makes up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import worker_service_pb2 as wire

Value = TypeVar("Value")
_ABSENT = bytes(16)


@dataclass
class Assignment:
    """One run to execute, as its worker sees it."""

    task_id: str
    token: int
    name: str = ""
    queue: str = ""
    payload: bytes = b""
    content_type: str = ""
    codec: str = ""
    run_number: int = 0
    attempt_number: int = 0
    max_retries: int = 0
    priority: int = 5
    timeout_s: float = 0.0
    parent_id: str = ""
    root_id: str = ""
    submitted_at_us: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False
    expires_in_ms: int = 0

    def group(self) -> wire.AssignmentGroup:
        """The run as a group of one."""
        made = wire.AssignmentGroup(
            name=self.name,
            queue=self.queue,
            content_type=self.content_type,
            codec=self.codec,
            max_retries=self.max_retries,
            priority=self.priority,
            alone=self.alone,
            task_ids=packed([self.task_id]),
            tokens=[self.token],
            payloads=[self.payload],
            run_numbers=[self.run_number],
            attempt_numbers=[self.attempt_number],
            parent_ids=packed([self.parent_id]),
            root_ids=packed([self.root_id]),
            submitted_at_us=[self.submitted_at_us],
        )
        if self.headers:
            made.headers.add().headers.update(self.headers)
        if self.expires_in_ms:
            made.expires_in_ms.append(self.expires_in_ms)
        if self.timeout_s:
            made.timeout.FromMilliseconds(round(self.timeout_s * 1000))
        return made


def packed(task_ids: Iterable[str]) -> bytes:
    """Ids as their bytes, one after the other; an empty one as zeros."""
    return b"".join([UUID(task_id).bytes if task_id else _ABSENT for task_id in task_ids])


def unpacked(ids: bytes) -> list[str]:
    """The other way round."""
    parts = [ids[start : start + 16] for start in range(0, len(ids), 16)]
    return ["" if part == _ABSENT else str(UUID(bytes=part)) for part in parts]


def each(column: Sequence[Value], count: int, default: Value) -> Sequence[Value]:
    """A column with one value for each run."""
    assert len(column) in (0, 1, count)
    return column if len(column) == count else [column[0] if column else default] * count


def assigned(assignments: wire.Assignments) -> list[Assignment]:
    """The runs of a frame."""
    return [run for group in assignments.groups for run in _runs(group)]


def _runs(group: wire.AssignmentGroup) -> list[Assignment]:
    count = len(group.tokens)
    assert len(group.task_ids) == 16 * count
    assert len(group.payloads) == count
    return [
        Assignment(
            task_id, token, group.name, group.queue, payload, group.content_type, group.codec, run_number,
            attempt_number, group.max_retries, group.priority, group.timeout.ToMilliseconds() / 1000,
            parent_id, root_id, submitted_at_us, headers, group.alone, left,
        )
        for task_id, token, payload, run_number, attempt_number, parent_id, root_id, submitted_at_us, headers,
            left
        in zip(
            unpacked(group.task_ids), group.tokens, group.payloads, each(group.run_numbers, count, 0),
            each(group.attempt_numbers, count, 0), each(unpacked(group.parent_ids), count, ""),
            each(unpacked(group.root_ids), count, ""), each(group.submitted_at_us, count, 0),
            each([dict(value.headers) for value in group.headers], count, {}),
            each(group.expires_in_ms, count, 0), strict=True,
        )
    ]  # fmt: skip


def completed(
    runs: Iterable[tuple[str, int]], result: bytes = b"1", content_type: str = ""
) -> wire.CompletedRuns:
    """Runs, (task id, token) each, that returned the same."""
    named = list(runs)
    return wire.CompletedRuns(
        task_ids=packed([task_id for task_id, _ in named]),
        tokens=[token for _, token in named],
        results=[result] * len(named),
        content_type=content_type,
    )


@dataclass
class Returned:
    """What a run returned."""

    result: bytes
    content_type: str = ""


class ToldRun:
    """How one run ended, by its report; `completed` is there as if it were a member of RunReport."""

    def __init__(self, task_id: str, token: int, told: wire.RunReport | Returned, elapsed: Duration) -> None:
        self.task_id, self.token, self.elapsed = task_id, token, elapsed
        self._told = told

    @property
    def completed(self) -> Returned:
        """What it returned."""
        return self._told if isinstance(self._told, Returned) else Returned(b"")

    def HasField(self, name: str) -> bool:  # noqa: N802
        """As of a message."""
        if isinstance(self._told, Returned):
            return name in ("completed", "elapsed")
        return name != "completed" and self._told.HasField(name)  # type: ignore[arg-type]

    def WhichOneof(self, name: str) -> str | None:  # noqa: N802
        """As of a message."""
        return "completed" if isinstance(self._told, Returned) else self._told.WhichOneof(name)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(wire.RunReport() if isinstance(self._told, Returned) else self._told, name)

    def __repr__(self) -> str:
        return f"{self.task_id} {self._told}"


def told_runs(report: wire.Report) -> list[ToldRun]:
    """How each run of a report ended: those that did not return first."""
    told = [ToldRun(run.task_id, run.token, run, run.elapsed) for run in report.runs]
    for group in report.completed:
        count = len(group.tokens)
        assert len(group.results) == count
        for task_id, token, result, took in zip(
            unpacked(group.task_ids),
            group.tokens,
            group.results,
            each(group.elapsed_us, count, 0),
            strict=True,
        ):
            elapsed = Duration()
            elapsed.FromMicroseconds(took)
            told.append(ToldRun(task_id, token, Returned(result, group.content_type), elapsed))
    return told
