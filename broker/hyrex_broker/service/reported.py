"""Checks workers' reports of how runs ended. Values out of bounds (from user code, a clock or settings) are
corrected and not refused, since a worker would repeat a refused report for ever."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain.ended import UNSTORABLE, EndBlock
from hyrex_broker.domain.errors import InvalidField, PayloadOverLimit, TooManyItems
from hyrex_broker.domain.ids import ID_BYTES, unpacked
from hyrex_broker.domain.model import NOT_IN_TIME, CancelCause, Outcome, Receipt, RunEnd, SessionId, Token
from hyrex_broker.engine.reports import RunReports
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.service import fields
from hyrex_broker.service.terms import first_unknown

MOST_RUNS: Final = 1000
_ERROR_BYTES: Final = 256 * 1024
_NO_RECEIPTS: Final[Sequence[Receipt]] = ()
_LONGEST_US: Final = fields.LONGEST_MS * 1000


def ends(
    report: wire.Report, session: ServedSession, payload_limit_bytes: int
) -> tuple[list[EndBlock], list[RunEnd]]:
    """Ends of the session's runs: of those that returned, and of the others. Raises InvalidField,
    TooManyItems."""
    count = len(report.runs) + sum(len(group.tokens) for group in report.completed)
    if not count:
        raise InvalidField("report.runs", 0, "report at least one run")
    if count > MOST_RUNS:
        raise TooManyItems(count, MOST_RUNS)
    others = []
    for run in report.runs:
        task_id, token = fields.task_id(run.task_id), Token(run.token)
        others.append(_end(run, RunEnd(task_id, token, session.session_id, Outcome.FAILED)))
    blocks = []
    for number, group in enumerate(report.completed):
        block = _returned(group, f"report.completed[{number}]", session)
        kept, unstorable = _storable(block, payload_limit_bytes)
        others += unstorable
        if len(kept):
            blocks.append(kept)
    return blocks, others


async def recorded(
    reports: RunReports, caller: SessionId, blocks: Sequence[EndBlock], others: Sequence[RunEnd]
) -> wire.ReportAck:
    """Record what a report said, those that returned and the others side by side; return the acknowledgement,
    without its number."""
    ack = wire.ReportAck()
    if not others:  # nearly always
        refused, receipts = await reports.report_returned(blocks, caller), _NO_RECEIPTS
    else:
        both = reports.report_returned(blocks, caller), reports.report(others, caller)
        refused, receipts = await asyncio.gather(*both)
    said = [*zip(others, receipts, strict=True)]
    ack.duplicate_tokens.extend(end.token for end, receipt in said if receipt is Receipt.DUPLICATE)
    ack.stale_tokens.extend(end.token for end, receipt in said if receipt is Receipt.STALE)
    for each in refused:
        ack.duplicate_tokens.extend(each.duplicate)
        ack.stale_tokens.extend(each.stale)
    return ack


def _returned(group: wire.CompletedRuns, field: str, session: ServedSession) -> EndBlock:
    count = len(group.tokens)
    if not count:
        raise InvalidField(f"{field}.tokens", 0, "name at least one run in each group")
    if len(group.task_ids) != ID_BYTES * count:
        size = len(group.task_ids)
        raise InvalidField(
            f"{field}.task_ids", size, f"must have {ID_BYTES} bytes for each of {count} tokens"
        )
    if len(group.results) != count:
        raise InvalidField(f"{field}.results", len(group.results), f"must be {count}, one for each token")
    if len(group.elapsed_us) not in (0, 1, count):
        raise InvalidField(f"{field}.elapsed_us", len(group.elapsed_us), f"must be 0, 1 or {count}")
    tokens = [*map(Token, group.tokens)]
    elapsed_us: Sequence[int] = list(group.elapsed_us)
    if max(elapsed_us, default=0) > _LONGEST_US:
        elapsed_us = [min(took, _LONGEST_US) for took in elapsed_us]
    return EndBlock(
        unpacked(group.task_ids),
        tokens,
        list(group.results),
        elapsed_us,
        [session.session_id],
        [group.content_type] if group.content_type else (),
    )


def _storable(block: EndBlock, limit_bytes: int) -> tuple[EndBlock, list[RunEnd]]:
    """Runs whose results can be stored; and the others, as failed."""
    (content_type,) = block.content_types or (None,)
    try:
        fields.short_text(content_type or "", "content_type")
    except InvalidField as error:
        failed = [block.failed(place, UNSTORABLE, error.message) for place in range(len(block))]
        return block.taking([]), failed
    sizes = [*map(len, block.results)]
    if max(sizes) <= limit_bytes:
        return block, []
    kept = [place for place, size in enumerate(sizes) if size <= limit_bytes]
    failed = [
        block.failed(place, "ResultTooLarge", PayloadOverLimit("result", size, limit_bytes).message)
        for place, size in enumerate(sizes)
        if size > limit_bytes
    ]
    return block.taking(kept), failed


def _end(run: wire.RunReport, end: RunEnd) -> RunEnd:
    """An end that has nothing but names yet, with what was reported."""
    outcome = run.WhichOneof("outcome")
    end.elapsed_us = _microseconds(run.elapsed) if run.HasField("elapsed") else None
    match outcome:
        case "failed":
            return _raised(end, Outcome.FAILED, run.failed)
        case "timed_out":
            return _raised(end, Outcome.TIMED_OUT, run.timed_out)
        case "cancelled":
            return replace(end, outcome=Outcome.CANCELLED, reason=_clean(run.cancelled.reason))
        case "expired":
            return replace(
                end, outcome=Outcome.CANCELLED, reason=NOT_IN_TIME, cause=CancelCause.EXPIRED, elapsed_us=None
            )
        case "released":
            return _released(end, run.released)
        case "lost":
            reason, elapsed_us = _clean(run.lost.reason), end.elapsed_us or 0
            return replace(
                end, outcome=Outcome.LOST, elapsed_us=elapsed_us, reason=reason, alone=run.lost.alone
            )
        case _:
            return _not_understood(run, end)


def _not_understood(run: wire.RunReport, end: RunEnd) -> RunEnd:
    """The end of a run in a form of a later version: what it meant is not recorded, so the run is lost, and
    another one is made of it. The other runs of the report are recorded. Raises InvalidField for no end."""
    number = first_unknown(run)
    if number is None:
        raise InvalidField("runs.outcome", run.task_id, "each reported run must say how it ended")
    reason = f"its worker reported an end that this broker does not know (field {number}): update the brokers"
    return replace(end, outcome=Outcome.LOST, elapsed_us=end.elapsed_us or 0, reason=reason, alone=True)


def _microseconds(elapsed: Duration) -> int:
    """How long a run took, within bounds, so that a worker's wrong clock does no harm to the batch."""
    return min(max(elapsed.seconds * 1_000_000 + elapsed.nanos // 1000, 0), _LONGEST_US)


def _raised(end: RunEnd, outcome: Outcome, said: wire.Failed | wire.TimedOut) -> RunEnd:
    return replace(
        end,
        outcome=outcome,
        error_type=_named(said.error.type),
        error_place=_named(said.error.place),
        error_message=_clean(said.error.message),
        traceback=_clean(said.error.traceback),
        retryable=said.retryable if isinstance(said, wire.Failed) else True,
        retry_delay_ms=_delay(said),
    )


def _released(end: RunEnd, said: wire.Released) -> RunEnd:
    """The end of a released run. One that never started is not recorded, unless it waits for another worker:
    then the reason is kept, to be shown."""
    delay = _delay(said)
    told = said.started or delay is not None
    return replace(
        end,
        outcome=Outcome.RELEASED,
        elapsed_us=(end.elapsed_us or 0) if told else None,
        reason=_clean(said.reason),
        retry_delay_ms=delay,
    )


def _named(text: str) -> str | None:
    """An error's type or place; of a long one the beginning, as much as a filter can ask for."""
    return text.replace("\0", "\\0").encode()[: fields.NAME_BYTES].decode(errors="ignore") or None


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
