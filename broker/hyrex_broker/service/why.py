"""AdminService.Why: why a task is not running now, with whoever holds the limit that it waits for."""

from typing import Final

from hyrex.v1 import admin_service_pb2, task_pb2
from hyrex_broker.domain.errors import NoSuchTask
from hyrex_broker.domain.rights import Caller
from hyrex_broker.domain.schedules import SCHEDULE_LABEL
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import HolderView, TaskView
from hyrex_broker.domain.waiting import (
    ITS_TURN,
    MOST_NAMED,
    full_limit,
    times_besides,
    waiting_for,
    waiting_for_key,
    waiting_for_nodes,
    waiting_outside,
    why_not_running,
)
from hyrex_broker.service import fields
from hyrex_broker.service.times import timestamp
from hyrex_broker.storage.reads import LISTED, TaskReads

_MOST_HOLDERS: Final = 20


class Reasons:
    """Explains tasks. Raises StorageUnavailable."""

    def __init__(self, reads: TaskReads) -> None:
        self._reads = reads

    async def why(
        self, request: admin_service_pb2.WhyRequest, caller: Caller
    ) -> admin_service_pb2.WhyResponse:
        """The reason of one task that the caller may see. Raises InvalidField, NoSuchTask."""
        task_id = fields.task_id(request.task_id)
        views = await self._reads.tasks([task_id], LISTED)
        if not views or not caller.sees(views[0].queue):
            raise NoSuchTask(task_id)
        answer = await self._explained(views[0])
        times = await self._reads.times_of(task_id, views[0].labels.get(SCHEDULE_LABEL))
        answer.sentence += times_besides(views[0], times)
        if not caller.unlimited:
            # Others' tasks may hold the limit of a task's name: that it is reached is told, not by whom.
            seen = [holder for holder in answer.holders if caller.sees(holder.queue)]
            del answer.holders[:]
            answer.holders.extend(seen)
        return answer

    async def _explained(self, view: TaskView) -> admin_service_pb2.WhyResponse:
        status = task_pb2.TaskStatus.ValueType(view.state)
        if view.in_outbox:
            return admin_service_pb2.WhyResponse(status=status, sentence=view.in_outbox)
        if view.state is TaskState.BLOCKED and (view.node or view.workflow_nodes):
            nodes = await self._reads.awaited(view.task_id, MOST_NAMED + 1)
            if nodes:
                return admin_service_pb2.WhyResponse(status=status, sentence=waiting_for_nodes(nodes))
        if view.state is TaskState.BLOCKED and view.is_outside:
            return admin_service_pb2.WhyResponse(status=status, sentence=waiting_outside(view.task_id))
        if view.state is TaskState.BLOCKED:
            key, most, holders = await self._reads.key_holders(view.task_id, _MOST_HOLDERS)
            return admin_service_pb2.WhyResponse(
                status=status, sentence=waiting_for_key(key, most, holders), holders=map(_holder, holders)
            )
        if view.state is not TaskState.QUEUED:
            return admin_service_pb2.WhyResponse(status=status, sentence=why_not_running(view))
        around = await self._reads.run_conditions(view.queue, view.name)
        sentence = waiting_for(view.queue, view.name, around)
        limit = full_limit(view.queue, view.name, around)
        holders = await self._reads.holders(*limit, _MOST_HOLDERS) if limit is not None else []
        return admin_service_pb2.WhyResponse(
            status=status, sentence=sentence or ITS_TURN, holders=map(_holder, holders)
        )


def _holder(view: HolderView) -> admin_service_pb2.LimitHolder:
    return admin_service_pb2.LimitHolder(
        task_id=view.task_id,
        name=view.name,
        queue=view.queue,
        worker=view.worker,
        since=timestamp(view.since),
    )
