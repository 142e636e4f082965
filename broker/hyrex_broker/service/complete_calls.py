"""The RPC CompleteTasks: ends tasks that wait for a call from outside."""

from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as pb
from hyrex_broker.domain.errors import InvalidField, PayloadOverLimit
from hyrex_broker.domain.model import CompleteOutcome, Outcome, OutsideEnd, TaskId
from hyrex_broker.domain.rights import ANYONE
from hyrex_broker.engine.fairness import Admission
from hyrex_broker.service import fields, requests
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.task_rights import Looks, QueuesOfTrees, TaskRights
from hyrex_broker.service.terms import refuse_unknown
from hyrex_broker.storage.sqlstates import StatementRefused

AT_ONCE: Final = 2000
"""How many tasks are ended at once: other connections are kept for submits and reports."""
_TEXT_BYTES: Final = 64 * 1024
_REASON_BYTES: Final = 1000
_PAYLOADS: Final = 4
"""As many payloads may the ends of one call have: each task stores its own."""


class CompletingTasks(Protocol):
    """Ends tasks that wait for a call from outside."""

    async def complete(self, task_ids: Sequence[TaskId], end: OutsideEnd) -> list[CompleteOutcome]:
        """One outcome for each id."""
        ...


class CompleteCalls:
    """The RPC CompleteTasks."""

    def __init__(
        self, calls: CompletingTasks, reads: QueuesOfTrees, looks: Looks, payload_limit_bytes: int
    ) -> None:
        self._calls = calls
        self._rights = TaskRights(reads, looks)
        self._looks = looks
        self._limit_bytes = payload_limit_bytes
        self._admission = Admission(AT_ONCE)

    async def complete(self, request: pb.CompleteTasksRequest, context: Context) -> pb.CompleteTasksResponse:
        """End tasks of queues that the caller has a right to. Raises InvalidField, PayloadOverLimit."""
        refuse_unknown(request, "request")
        ids = requests.task_ids(request.task_ids)
        end = self._end(request, len(ids))
        permit = await self._admission.enter(requests.caller(context), len(ids))
        try:
            complete = partial(self._calls.complete, end=end)
            outcomes = await self._rights.changed(ids, complete, CompleteOutcome.NOT_FOUND) if ids else []
        except StatementRefused as error:
            raise InvalidField("end", error.sqlstate, f"the database refused it ({error})") from error
        finally:
            permit.leave()
        self._note(
            [each for each, outcome in zip(ids, outcomes, strict=True) if outcome is CompleteOutcome.ENDED]
        )
        return pb.CompleteTasksResponse(
            results=[
                pb.CompleteResult(task_id=task_id, outcome=pb.CompleteOutcome.ValueType(outcome))
                for task_id, outcome in zip(ids, outcomes, strict=True)
            ]
        )

    def _note(self, ids: Sequence[TaskId]) -> None:
        caller = current_caller()
        if caller is not ANYONE and ids:
            self._looks.looked(caller.name, "task.complete", ids)

    def _end(self, request: pb.CompleteTasksRequest, count: int) -> OutsideEnd:
        reason = fields.short_text(request.reason, "reason", _REASON_BYTES) or ""
        match request.WhichOneof("end"):
            case "result":
                return self._returned(request.result, count, reason)
            case "error":
                return self._failed(request.error, count, reason)
            case _:
                raise InvalidField("end", None, "say how they end: set result or error")

    def _returned(self, said: pb.OutsideResult, count: int, reason: str) -> OutsideEnd:
        self._require_size("result.result", len(said.result), count)
        content_type = fields.short_text(said.content_type, "result.content_type")
        return OutsideEnd(Outcome.COMPLETED, said.result, content_type, reason=reason)

    def _failed(self, said: task_pb2.RunError, count: int, reason: str) -> OutsideEnd:
        end = OutsideEnd(
            Outcome.FAILED,
            error_type=fields.name(said.type, "error.type"),
            error_message=fields.short_text(said.message, "error.message", _TEXT_BYTES),
            traceback=fields.short_text(said.traceback, "error.traceback", _TEXT_BYTES),
            reason=reason,
        )
        self._require_size("error", said.ByteSize(), count)
        return end

    def _require_size(self, what: str, size: int, count: int) -> None:
        """Raises PayloadOverLimit for an end that is too large for one task, or for so many."""
        if size > self._limit_bytes:
            raise PayloadOverLimit(what, size, self._limit_bytes)
        if size * count > _PAYLOADS * self._limit_bytes:
            raise PayloadOverLimit(f"{what} for {count} tasks", size * count, _PAYLOADS * self._limit_bytes)
