"""TaskService: the RPCs that cancel, retry and dismiss tasks by their ids, so many tasks at once."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from hyrex.v1 import task_service_pb2
from hyrex_broker.domain.errors import RowRefused
from hyrex_broker.domain.model import CancelOutcome, DismissOutcome, RetryOutcome, TaskId
from hyrex_broker.engine.fairness import Admission
from hyrex_broker.service import fields as checks
from hyrex_broker.service import requests
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.errors import to_item_error
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.task_rights import TaskRights

CHANGES_AT_ONCE: Final = 2000
"""How many tasks are changed at once: other connections are kept for submits and reports."""
_REASON_BYTES: Final = 1000

Outcome = TypeVar("Outcome")


class Cancelling(Protocol):
    """Ends tasks, reopens and dismisses ended ones."""

    async def cancel(self, task_ids: Sequence[TaskId], reason: str) -> list[CancelOutcome]:
        """One outcome for each id."""
        ...

    async def retry(self, task_ids: Sequence[TaskId]) -> list[RetryOutcome]:
        """One outcome for each id."""
        ...

    async def dismiss(self, task_ids: Sequence[TaskId], who: str) -> list[DismissOutcome]:
        """One outcome for each id."""
        ...


class TaskChanges:
    """Answers the RPCs that change tasks; callers have equal shares of what is changed at once."""

    def __init__(self, cancels: Cancelling, rights: TaskRights) -> None:
        self._cancels = cancels
        self._rights = rights
        self._admission = Admission(CHANGES_AT_ONCE)

    async def cancel(
        self, request: task_service_pb2.CancelTasksRequest, context: Context
    ) -> task_service_pb2.CancelTasksResponse:
        """Cancel tasks, whatever they are doing. Raises InvalidField, StorageUnavailable."""
        ids = requests.task_ids(request.task_ids)
        reason = checks.short_text(request.reason, "reason", _REASON_BYTES) or ""
        cancel = partial(self._cancels.cancel, reason=reason)
        outcomes = await self._changed(context, ids, cancel, CancelOutcome.NOT_FOUND)
        return task_service_pb2.CancelTasksResponse(
            results=[
                task_service_pb2.CancelResult(
                    task_id=task_id, outcome=task_service_pb2.CancelOutcome.ValueType(outcome)
                )
                for task_id, outcome in zip(ids, outcomes, strict=True)
            ]
        )

    async def retry(
        self, request: task_service_pb2.RetryTasksRequest, context: Context
    ) -> task_service_pb2.RetryTasksResponse:
        """Make ended tasks ready again. Raises InvalidField, StorageUnavailable."""
        ids = requests.task_ids(request.task_ids)
        outcomes = await self._changed(context, ids, self._cancels.retry, RetryOutcome.NOT_FOUND)
        results = [
            task_service_pb2.RetryResult(
                task_id=task_id, outcome=task_service_pb2.RetryOutcome.ValueType(outcome)
            )
            for task_id, outcome in zip(ids, outcomes, strict=True)
        ]
        absent = [each for each in results if each.outcome == task_service_pb2.RETRY_OUTCOME_NOT_FOUND]
        await self._look_in_outbox(absent, RetryOutcome.NOT_FINAL, RetryOutcome.REFUSED)
        return task_service_pb2.RetryTasksResponse(results=results)

    async def dismiss(
        self, request: task_service_pb2.DismissTasksRequest, context: Context
    ) -> task_service_pb2.DismissTasksResponse:
        """Take ended tasks off the list of failures. Raises InvalidField, StorageUnavailable."""
        ids = requests.task_ids(request.task_ids)
        dismiss = partial(self._cancels.dismiss, who=current_caller().name)
        outcomes = await self._changed(context, ids, dismiss, DismissOutcome.NOT_FOUND)
        self._rights.dismissed(
            [each for each, outcome in zip(ids, outcomes, strict=True) if outcome is DismissOutcome.DISMISSED]
        )
        results = [
            task_service_pb2.DismissResult(
                task_id=task_id, outcome=task_service_pb2.DismissOutcome.ValueType(outcome)
            )
            for task_id, outcome in zip(ids, outcomes, strict=True)
        ]
        absent = [each for each in results if each.outcome == task_service_pb2.DISMISS_OUTCOME_NOT_FOUND]
        await self._look_in_outbox(absent, DismissOutcome.NOT_DEAD, DismissOutcome.REFUSED)
        return task_service_pb2.DismissTasksResponse(results=results)

    async def _look_in_outbox(self, absent: Sequence[Any], waits: int, refused: int) -> None:
        """Say in results of tasks that were not found which wait in an outbox, and which were refused there,
        and why."""
        views = await self._rights.seen([TaskId(each.task_id) for each in absent])
        for each in absent:
            view = views.get(TaskId(each.task_id))
            if view is None or not view.in_outbox:
                continue
            each.outcome = refused if view.is_refused else waits
            if view.is_refused:
                each.error.CopyFrom(to_item_error(RowRefused(view.task_id, view.in_outbox)))

    async def _changed(
        self,
        context: Context,
        ids: Sequence[TaskId],
        change: Callable[[Sequence[TaskId]], Awaitable[list[Outcome]]],
        not_found: Outcome,
    ) -> list[Outcome]:
        """Change what the caller may change, when there is room; one outcome for each id."""
        permit = await self._admission.enter(requests.caller(context), len(ids))
        try:
            return await self._rights.changed(ids, change, not_found) if ids else []
        finally:
            permit.leave()
