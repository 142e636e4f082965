"""Checks workers' reports of how runs ended. Values out of bounds (from user code, a clock or settings) are
corrected and not refused, since a worker would repeat a refused report for ever."""

from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain.assigned import each
from hyrex_broker.domain.errors import BrokerError, InvalidField, PayloadOverLimit, TooManyItems
from hyrex_broker.domain.ids import ID_BYTES, task_id, unpacked
from hyrex_broker.domain.model import Outcome, RunEnd, TaskId, Token
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.service import fields

MOST_RUNS: Final = 1000
_ERROR_BYTES: Final = 256 * 1024
_LONGEST_US: Final = fields.LONGEST_MS * 1000


def ends(report: wire.Report, session: ServedSession, payload_limit_bytes: int) -> list[RunEnd]:
    """Ends of the session's runs. Raises InvalidField, TooManyItems."""
    count = len(report.runs) + sum(len(group.tokens) for group in report.completed)
    if not count:
        raise InvalidField("report.runs", 0, "report at least one run")
    if count > MOST_RUNS:
        raise TooManyItems(count, MOST_RUNS)
    found = []
    for run in report.runs:
        token = Token(run.token)
        end = _end(run, fields.task_id(run.task_id), token)
        end.session_id = session.holder(token)
        found.append(end)
    for number, group in enumerate(report.completed):
        found += _completed(group, f"report.completed[{number}]", session, payload_limit_bytes)
    return found


def _completed(
    group: wire.CompletedRuns, field: str, session: ServedSession, limit_bytes: int
) -> list[RunEnd]:
    count = len(group.tokens)
    if not count:
        raise InvalidField(f"{field}.tokens", 0, "name at least one run in each group")
    if len(group.task_ids) != ID_BYTES * count:
        raise InvalidField(
            f"{field}.task_ids", len(group.task_ids), f"must have 16 bytes for each of {count} tokens"
        )
    if len(group.results) != count:
        raise InvalidField(f"{field}.results", len(group.results), f"must be {count}, one for each token")
    if len(group.elapsed_us) not in (0, 1, count):
        raise InvalidField(f"{field}.elapsed_us", len(group.elapsed_us), f"must be 0, 1 or {count}")
    elapsed = each(group.elapsed_us, count, 0)
    columns = zip(unpacked(group.task_ids), group.tokens, elapsed, group.results, strict=True)
    return [
        _returned(
            RunEnd(
                task_id(digits),
                Token(token),
                Outcome.COMPLETED,
                min(took, _LONGEST_US),
                result,
                group.content_type or None,
                session_id=session.holder(Token(token)),
            ),
            limit_bytes,
        )
        for digits, token, took, result in columns
    ]


def _end(run: wire.RunReport, task_id: TaskId, token: Token) -> RunEnd:
    outcome = run.WhichOneof("outcome")
    elapsed = _microseconds(run.elapsed) if run.HasField("elapsed") else None
    match outcome:
        case "failed":
            return _failed(task_id, token, elapsed, run.failed)
        case "timed_out":
            return _timed_out(task_id, token, elapsed, run.timed_out)
        case "cancelled":
            return RunEnd(task_id, token, Outcome.CANCELLED, elapsed, reason=_clean(run.cancelled.reason))
        case "released":
            return _released(task_id, token, elapsed, run.released)
        case "lost":
            reason, alone = _clean(run.lost.reason), run.lost.alone
            return RunEnd(task_id, token, Outcome.LOST, elapsed or 0, reason=reason, alone=alone)
        case _:
            raise InvalidField("runs.outcome", run.task_id, "each reported run must say how it ended")


def _microseconds(elapsed: Duration) -> int:
    """How long a run took, within bounds, so that a worker's wrong clock does no harm to the batch."""
    return min(max(elapsed.seconds * 1_000_000 + elapsed.nanos // 1000, 0), _LONGEST_US)


def _returned(end: RunEnd, limit_bytes: int) -> RunEnd:
    """The end of a run that returned; it counts as failed if its result cannot be stored."""
    size = len(end.result or b"")
    try:
        if size > limit_bytes:
            raise PayloadOverLimit("result", size, limit_bytes)
        if end.content_type is not None:
            fields.short_text(end.content_type, "content_type")
    except BrokerError as error:
        kind = "ResultTooLarge" if isinstance(error, PayloadOverLimit) else "UnstorableResult"
        return RunEnd(
            end.task_id, end.token, Outcome.FAILED, end.elapsed_us, error_type=kind,
            error_message=error.message, retryable=False, session_id=end.session_id,
        )  # fmt: skip
    return end


def _failed(task_id: TaskId, token: Token, elapsed: int | None, said: wire.Failed) -> RunEnd:
    return RunEnd(
        task_id,
        token,
        Outcome.FAILED,
        elapsed,
        error_type=_clean(said.error.type),
        error_message=_clean(said.error.message),
        traceback=_clean(said.error.traceback),
        retryable=said.retryable,
        retry_delay_ms=_delay(said),
    )


def _released(task_id: TaskId, token: Token, elapsed: int | None, said: wire.Released) -> RunEnd:
    """The end of a released run. One that never started is not recorded, unless it waits for another worker:
    then the reason is kept, to be shown."""
    delay = _delay(said)
    told = said.started or delay is not None
    return RunEnd(
        task_id,
        token,
        Outcome.RELEASED,
        (elapsed or 0) if told else None,
        reason=_clean(said.reason),
        retry_delay_ms=delay,
    )


def _timed_out(task_id: TaskId, token: Token, elapsed: int | None, said: wire.TimedOut) -> RunEnd:
    return RunEnd(
        task_id,
        token,
        Outcome.TIMED_OUT,
        elapsed,
        error_type=_clean(said.error.type),
        error_message=_clean(said.error.message),
        traceback=_clean(said.error.traceback),
        retry_delay_ms=_delay(said),
    )


def _clean(text: str) -> str | None:
    """Text that Postgres can store: NUL shown as \\0, and a bound on its length (the end matters most)."""
    if not text:
        return None
    return text.replace("\0", "\\0")[-_ERROR_BYTES:]


def _delay(said: wire.Failed | wire.TimedOut | wire.Released) -> int | None:
    """The delay before the retry, brought within its bounds: a worker would repeat a refused report for
    ever."""
    if not said.HasField("retry_delay"):
        return None
    delay = said.retry_delay
    return min(max(delay.seconds * 1000 + -(-delay.nanos // 1_000_000), 0), fields.LONGEST_MS)
