"""AdminService: bulk operations, which cancel or retry all tasks that a filter fits."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from hyrex.v1 import admin_service_pb2 as pb
from hyrex_broker.domain.bulk import BulkAction, BulkOperation, BulkState, acted_on, to_words
from hyrex_broker.domain.errors import InvalidField, PeerNotFound
from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.domain.rights import ANYONE, EVERY_QUEUE, Caller
from hyrex_broker.domain.selection import Selection
from hyrex_broker.engine.audit import Audit
from hyrex_broker.service import convert, fields, filters, requests
from hyrex_broker.service.pages import PageTokens, not_ours
from hyrex_broker.service.times import timestamp, timestamp_if_any
from hyrex_broker.storage.bulk import NEWEST, BulkStore
from hyrex_broker.storage.listing import TaskLists

MOST_COUNTED: Final = 10_000
_REASON_BYTES: Final = 1000
_DEFAULT_PAGE: Final = 50
_ACTIONS: Final = {
    pb.BULK_ACTION_CANCEL: BulkAction.CANCEL,
    pb.BULK_ACTION_RETRY: BulkAction.RETRY,
    pb.BULK_ACTION_DISMISS: BulkAction.DISMISS,
}
_NUMBERS: Final = {action: number for number, action in _ACTIONS.items()}
_STATES: Final = {
    BulkState.RUNNING: pb.BULK_STATE_RUNNING,
    BulkState.DONE: pb.BULK_STATE_DONE,
    BulkState.STOPPED: pb.BULK_STATE_STOPPED,
}


class BulkRpcs:
    """Answers the RPCs of bulk operations. `begun` is called when there is one to work on. Raises
    StorageUnavailable."""

    def __init__(
        self, store: BulkStore, lists: TaskLists, audit: Audit, pages: PageTokens, begun: Callable[[], None]
    ) -> None:
        self._store = store
        self._pages = pages
        self._audit = audit
        self._lists = lists
        self._begun = begun
        self._one_count = asyncio.Lock()
        """A count may take 1.5 s: other connections are kept for other reads."""

    async def start(
        self, request: pb.StartBulkOperationRequest, caller: Caller
    ) -> pb.StartBulkOperationResponse:
        """Begin an operation on tasks of the caller's queues, or count those. Raises InvalidField."""
        action, selection = _wanted(request)
        if not caller.unlimited:
            selection = replace(selection, within=caller.queue_patterns)
        if request.dry_run:
            async with self._one_count:
                count, rest = await self._lists.count(selection, MOST_COUNTED)
            return pb.StartBulkOperationResponse(count=count, more=rest is not None)
        operation = _operation(request, action, selection, "" if caller is ANYONE else caller.name)
        if await self._store.find(operation.operation_id) is None:
            told = {"filter": json.dumps(to_words(selection)), "reason": request.reason}
            await self._audit.record(caller.name, f"bulk.{action.value}", operation.operation_id, told)
        await self._store.begin(operation)
        self._begun()
        return pb.StartBulkOperationResponse(operation=await self._found(operation.operation_id, caller))

    async def get(self, request: pb.GetBulkOperationRequest, caller: Caller) -> pb.GetBulkOperationResponse:
        """One operation. Raises InvalidField, PeerNotFound."""
        return pb.GetBulkOperationResponse(operation=await self._found(_id(request.operation_id), caller))

    async def stop(
        self, request: pb.StopBulkOperationRequest, caller: Caller
    ) -> pb.StopBulkOperationResponse:
        """Stop one. Raises InvalidField, PeerNotFound."""
        operation_id = _id(request.operation_id)
        await self._found(operation_id, caller)
        await self._audit.record(caller.name, "bulk.stop", operation_id)
        await self._store.stop(operation_id)
        return pb.StopBulkOperationResponse(operation=await self._found(operation_id, caller))

    async def list(
        self, request: pb.ListBulkOperationsRequest, caller: Caller
    ) -> pb.ListBulkOperationsResponse:
        """A page. Raises InvalidField, PageTokenInvalid."""
        size = requests.page_size(request.page_size, _DEFAULT_PAGE)
        before = _before(await self._pages.cursor(request.page_token, ["bulk"]))
        page = await self._store.page(before, size)
        last = f"{page[-1].started_at.isoformat()} {page[-1].operation_id}" if len(page) == size else None
        return pb.ListBulkOperationsResponse(
            operations=[_wire(each) for each in page if _covers(caller, each)],
            next_page_token=await self._pages.token(last, ["bulk"]),
        )

    async def _found(self, operation_id: str, caller: Caller) -> pb.BulkOperation:
        operation = await self._store.find(operation_id)
        if operation is None or not _covers(caller, operation):
            raise PeerNotFound("bulk operation", operation_id)
        return _wire(operation)


def _covers(caller: Caller, operation: BulkOperation) -> bool:
    """Return True if all that an operation may act on lies within the caller's rights."""
    return caller.covers_all(operation.selection.within or (EVERY_QUEUE,))


def _wanted(request: pb.StartBulkOperationRequest) -> tuple[BulkAction, Selection]:
    action = _ACTIONS.get(request.action)
    if action is None:
        raise InvalidField(
            "action", request.action, "must be BULK_ACTION_CANCEL, BULK_ACTION_RETRY or BULK_ACTION_DISMISS"
        )
    selection = filters.of_filter(request.filter)
    if selection == Selection():
        raise InvalidField("filter", "", "must say which tasks; name pattern * stands for all of them")
    wanted = acted_on(action, selection)
    if wanted is None:
        named = ", ".join(state.name for state in sorted(selection.states))
        raise InvalidField("filter.statuses", named, f"must have a status of tasks to {action.value}")
    return action, wanted


def _operation(
    request: pb.StartBulkOperationRequest, action: BulkAction, selection: Selection, who: str
) -> BulkOperation:
    """The operation at its start: what its ages mean is fixed now, so that it ends."""
    now = time.time()
    moment = datetime.fromtimestamp(now, UTC)
    if selection.younger_than_s is not None:
        after = moment - timedelta(seconds=selection.younger_than_s)
        selection = replace(selection, created_after=after)
    return BulkOperation(
        operation_id=_id(request.operation_id) if request.operation_id else str(uuid.uuid4()),
        action=action,
        selection=selection,
        reason=fields.short_text(request.reason, "reason", _REASON_BYTES) or "",
        who=who,
        state=BulkState.RUNNING,
        cursor=lowest_id(now - (selection.older_than_s or 0)),
        matched=0,
        done=0,
        started_at=moment,
        ended_at=None,
    )


def _id(text: str) -> str:
    return fields.task_id(text, "operation_id")


def _before(cursor: str | None) -> tuple[datetime, str]:
    if cursor is None:
        return NEWEST
    try:
        moment, operation_id = cursor.split(" ")
        return datetime.fromisoformat(moment).astimezone(UTC), fields.task_id(operation_id)
    except (ValueError, OverflowError, InvalidField):
        raise not_ours() from None


def _wire(operation: BulkOperation) -> pb.BulkOperation:
    return pb.BulkOperation(
        operation_id=operation.operation_id,
        action=_NUMBERS[operation.action],
        filter=filters.to_filter(operation.selection),
        reason=operation.reason,
        who=operation.who,
        state=_STATES[operation.state],
        matched=operation.matched,
        done=operation.done,
        started_at=timestamp(operation.started_at),
        ended_at=timestamp_if_any(operation.ended_at),
        looked_back_to=None if operation.state is BulkState.DONE else convert.made_at(operation.cursor),
    )
