"""Replays a task: stores a new one like it (rule 37). Its payload is copied here, so who asks need not see
it."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Final, Protocol

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.errors import InvalidField, NoSuchTask, RowRefused
from hyrex_broker.domain.model import priority_of
from hyrex_broker.domain.rights import ANYONE
from hyrex_broker.domain.views import ReplayedTask
from hyrex_broker.service import fields, requests
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.submit import Results
from hyrex_broker.service.task_rights import Looks, TaskRights
from hyrex_broker.service.terms import MAP_BYTES
from hyrex_broker.service.times import duration_if_any
from hyrex_broker.storage.reads import TaskReads

log = logging.getLogger(__name__)

REPLAY_OF: Final = "hyrex.replay_of"
"""The label of a replay that names the earlier task."""


class SubmitsTasks(Protocol):
    """Stores submitted tasks."""

    async def submit(
        self,
        tasks: Sequence[task_pb2.NewTask],
        results: Results,
        patience_s: float | None = None,
        caller: Hashable = None,
    ) -> None:
        """Add one result for each task, after the commit."""
        ...


class Replays:
    """The RPC ReplayTask."""

    def __init__(self, reads: TaskReads, submits: SubmitsTasks, looks: Looks) -> None:
        self._reads = reads
        self._submits = submits
        self._looks = looks
        self._rights = TaskRights(reads, looks)

    async def replay(
        self, request: task_service_pb2.ReplayTaskRequest, context: Context
    ) -> task_service_pb2.ReplayTaskResponse:
        """Store a new task. Raises InvalidField, and NoSuchTask also for a queue that is not the caller's."""
        task_id = fields.task_id(request.task_id)
        new_id = fields.task_id(request.new_task_id, "new_task_id")
        earlier, caller = await self._reads.to_replay(task_id), current_caller()
        if earlier is None:
            view = (await self._rights.seen([task_id])).get(task_id)
            if view is not None and view.is_refused:
                raise RowRefused(task_id, view.in_outbox)
            raise NoSuchTask(task_id)
        if not caller.covers(earlier.queue):
            raise NoSuchTask(task_id)
        if earlier.of_workflow:
            remedy = "is of a workflow: retry it (RetryTasks), or send the workflow again under new ids"
            raise InvalidField("task_id", task_id, remedy)
        task = _like(earlier, request)
        task.task_id = new_id
        if _has_room(task.labels, task_id):
            task.labels[REPLAY_OF] = task_id
        else:
            log.warning(
                "a replay has no label for its earlier task: its labels are full", extra={"task": new_id}
            )
        response = task_service_pb2.ReplayTaskResponse()
        results = task_service_pb2.SubmitTasksResponse().results
        await self._submits.submit([task], results, requests.patience_s(context), requests.caller(context))
        if caller is not ANYONE:
            self._looks.looked(caller.name, "task.replay", [task_id])
        response.result.CopyFrom(results[0])
        return response


def _has_room(labels: Mapping[str, str], task_id: str) -> bool:
    """Return True if the label of a replay leaves its labels below their limit."""
    others = sum(len(f"{key}{value}".encode()) for key, value in labels.items() if key != REPLAY_OF)
    return others + len(REPLAY_OF) + len(task_id) <= MAP_BYTES


def _like(earlier: ReplayedTask, request: task_service_pb2.ReplayTaskRequest) -> task_pb2.NewTask:
    edited = request.HasField("payload")
    if edited and earlier.carried.codec:
        raise InvalidField(
            "payload",
            f"{len(request.payload)} bytes",
            f"must be absent: the payload is encoded by {earlier.carried.codec}; send a new task instead",
        )
    return task_pb2.NewTask(
        name=earlier.name,
        queue=earlier.queue,
        payload=request.payload if edited else earlier.payload,
        priority=priority_of(earlier.rank),
        max_retries=earlier.max_retries,
        timeout=duration_if_any(earlier.timeout_ms),
        retry_delay=duration_if_any(earlier.retry_delay_ms),
        headers=earlier.headers,
        labels=earlier.labels,
        concurrency_key=earlier.concurrency_key or "",
        max_per_key=earlier.max_per_key or 0,
        fair_key=earlier.fair_key or "",
        outside=earlier.is_outside,
        **earlier.carried.given(),
    )
