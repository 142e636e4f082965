"""ScheduleService: tasks that are stored at the slots of cron expressions."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex.v1 import schedule_service_pb2 as pb
from hyrex.v1 import schedule_service_pb2_grpc
from hyrex_broker.domain.errors import InvalidField, PeerNotFound, RightMissing, TaskIdConflict
from hyrex_broker.domain.features import FeatureGate, needed_by_schedule
from hyrex_broker.domain.ids import hex_id
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.rights import Scope
from hyrex_broker.domain.schedules import Cause, FiredSlot, ScheduleDefinition, ScheduleSource, StoredSchedule
from hyrex_broker.domain.states import TaskState
from hyrex_broker.engine.audit import Audit
from hyrex_broker.engine.fairness import Admission
from hyrex_broker.engine.schedules import ATTEMPTS, ScheduledSubmits, ScheduleElsewhere, kept_changing
from hyrex_broker.service import fields, requests, schedule_convert
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.ids import unusual_ids
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.service.receiving import Context
from hyrex_broker.storage.reads import Detail, TaskReads
from hyrex_broker.storage.schedule_rows import Seen
from hyrex_broker.storage.schedules import ScheduleStore
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.submit import is_repetition

_DEFAULT_PAGE: Final = 100
_DEFAULT_SLOTS: Final = 30
_MOST_SLOTS: Final = 100
_LISTS_AT_ONCE: Final = 1
_LOOKED_AT: Final = 500
"""Schedules at a time, for a caller that may not see all of them,"""
_MOST_LOOKS: Final = 20
"""and how often for one page."""
_ONLY_STATE: Final = Detail(False, -1, 1, -1, 0, -1)


@dataclass(frozen=True, slots=True)
class ScheduleParts:
    """What answers the RPCs."""

    store: ScheduleStore
    schedules: ScheduledSubmits
    reads: TaskReads
    audit: Audit
    pages: PageTokens
    payload_limit_bytes: int


class ScheduleServicer(schedule_service_pb2_grpc.ScheduleServiceServicer):
    """The RPCs of ScheduleService. A right is checked where its effect lands: in the queue of the tasks."""

    def __init__(self, parts: ScheduleParts) -> None:
        self._store = parts.store
        self._schedules = parts.schedules
        self._reads = parts.reads
        self._audit = parts.audit
        self._pages = parts.pages
        self._limit = parts.payload_limit_bytes
        self._lists = Admission(_LISTS_AT_ONCE, has_reserve=False)
        self.gate = FeatureGate()
        """That of the cluster, where there is one."""

    async def PutSchedule(self, request: pb.PutScheduleRequest, context: Context) -> pb.PutScheduleResponse:
        source = ScheduleSource.CODE if request.from_code else ScheduleSource.OPERATOR
        wanted = schedule_convert.definition(request.definition, "definition", source, self._limit)
        caller = current_caller()
        caller.require(Scope.SUBMIT, wanted.queue)
        await self.gate.require(*needed_by_schedule(wanted.options))
        before = await self._store.standing(wanted.name)
        if before.queue is not None and not caller.covers(before.queue):
            raise _elsewhere()
        if source is ScheduleSource.OPERATOR:
            await self._record("schedule.put", wanted.name, _told(wanted))
            changed = await self._put(wanted)
        else:
            changed = await self._schedules.declare([wanted], caller.covers)
        return pb.PutScheduleResponse(schedule=await self._shown(wanted.name), changed=changed)

    async def _put(self, wanted: ScheduleDefinition) -> bool:
        try:
            return await self._schedules.put(wanted, current_caller().covers)
        except ScheduleElsewhere:  # since a moment ago
            raise _elsewhere() from None

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        most = fields.integer(request.slots, "slots", 0, _MOST_SLOTS) or _DEFAULT_SLOTS
        seen = await self._found(request.name, Scope.READ)
        slots = await self._store.last_slots(request.name, most)
        states = await self._states([each.task_id for each in slots])
        return pb.GetScheduleResponse(
            schedule=_wire(seen), slots=[schedule_convert.slot(each, states) for each in slots]
        )

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, context: Context
    ) -> pb.ListSchedulesResponse:
        size = requests.page_size(request.page_size, _DEFAULT_PAGE)
        after = await self._pages.cursor(request.page_token, ["schedules"]) or ""
        permit = await self._lists.enter(requests.caller(context), 1)
        try:
            found, rest = await self._listed(after, size)
        finally:
            permit.leave()
        shown: list[pb.Schedule] = []
        for each in found:
            shown.append(_wire(each, brief=True))
            await asyncio.sleep(0)  # next slots may take a millisecond
        return pb.ListSchedulesResponse(
            schedules=shown, next_page_token=await self._pages.token(rest, ["schedules"])
        )

    async def _listed(self, after: str, size: int) -> tuple[list[Seen], str | None]:
        """What the caller sees, and where to go on. Who sees little gets few at a time, or none yet."""
        caller, found, rest = current_caller(), list[Seen](), after
        at_a_time = size if caller.unlimited else max(size, _LOOKED_AT)
        for _ in range(_MOST_LOOKS):
            some, following = await self._store.page(rest, at_a_time, caller.sees)
            found += some
            if len(found) > size:
                return found[:size], found[size - 1].schedule.definition.name
            if following is None or len(found) == size:
                return found, following
            rest = following
        return found, rest

    async def PauseSchedule(
        self, request: pb.PauseScheduleRequest, context: Context
    ) -> pb.PauseScheduleResponse:
        seen = await self._found(request.name, Scope.SUBMIT)
        await self._record("schedule.resume" if request.resume else "schedule.pause", request.name)
        await self._change(seen, self._schedules.resume if request.resume else self._schedules.pause)
        return pb.PauseScheduleResponse(schedule=await self._shown(request.name))

    async def _change(self, seen: Seen, change: Callable[[StoredSchedule], Awaitable[bool]]) -> None:
        """Change a schedule as it was when the caller's right was checked; look again if it has changed.
        Raises PeerNotFound, StorageUnavailable."""
        name = seen.schedule.definition.name
        for _ in range(ATTEMPTS):
            if await change(seen.schedule):
                return
            seen = await self._found(name, Scope.SUBMIT)
        raise kept_changing(name)

    async def TriggerSchedule(
        self, request: pb.TriggerScheduleRequest, context: Context
    ) -> pb.TriggerScheduleResponse:
        seen = await self._found(request.name, Scope.SUBMIT)
        task_id = _new_task_id(request.task_id) if request.task_id else None
        if task_id is None or await self._store.slot_of(request.name, task_id) is None:
            await self._record("schedule.trigger", request.name)
            for _ in range(ATTEMPTS):
                if (stored := await self._triggered(seen, task_id)) is not None:
                    return pb.TriggerScheduleResponse(task_id=stored)
                seen = await self._found(request.name, Scope.SUBMIT)
            raise kept_changing(request.name)
        return pb.TriggerScheduleResponse(task_id=task_id)

    async def _triggered(self, seen: Seen, task_id: TaskId | None) -> TaskId | None:
        """The task; None if the schedule was changed since. Raises TaskIdConflict if the id is another's."""
        name = seen.schedule.definition.name
        try:
            stored = await self._schedules.extra.store(seen.schedule, [seen.now], Cause.TRIGGER, task_id)
        except StatementRefused as error:
            if not is_repetition(error) or task_id is None:
                raise
            if await self._store.slot_of(name, task_id) is None:
                raise TaskIdConflict(task_id) from None
            return task_id
        return stored[0].task_id if stored else None

    async def BackfillSchedule(
        self, request: pb.BackfillScheduleRequest, context: Context
    ) -> pb.BackfillScheduleResponse:
        seen = await self._found(request.name, Scope.SUBMIT)
        slots = schedule_convert.slots_between(request, seen.schedule.definition, seen.now)
        stored = await self._stored(request.name, slots)
        lacking = [each for each in slots if each not in stored]
        await self._refuse_forgotten(request.name, lacking)
        count = len(lacking)
        if lacking and not request.dry_run:
            told = {"from": slots[0].isoformat(), "to": slots[-1].isoformat(), "slots": str(count)}
            await self._record("schedule.backfill", request.name, told)
            count = len(await self._schedules.extra.store(seen.schedule, lacking, Cause.BACKFILL))
            if count < len(lacking) and await self._has_moved(seen):
                raise kept_changing(request.name)
            stored = await self._stored(request.name, slots)
        return pb.BackfillScheduleResponse(slots=schedule_convert.backfilled(slots, stored), stored=count)

    async def _refuse_forgotten(self, name: str, lacking: Sequence[datetime]) -> None:
        """To be called after the look at what is stored: what is forgotten later was found there. Raises
        InvalidField for slots that may have had their tasks."""
        through = await self._store.forgotten_through(name) if lacking else None
        if through is not None and lacking[0] <= through:
            raise InvalidField(
                "from",
                lacking[0].isoformat(),
                f"must be after {through.isoformat()}: which slots up to then had their tasks is forgotten"
                " (brokers know it for --retention-days); send tasks for those yourself",
            )

    async def DeleteSchedule(
        self, request: pb.DeleteScheduleRequest, context: Context
    ) -> pb.DeleteScheduleResponse:
        seen = await self._found(request.name, Scope.SUBMIT)
        await self._record("schedule.delete", request.name)
        await self._change(seen, lambda found: self._store.delete(request.name, found.revision))
        return pb.DeleteScheduleResponse()

    async def _has_moved(self, before: Seen) -> bool:
        """Return True if its tasks are others now. Raises PeerNotFound."""
        was = before.schedule.definition
        now = (await self._found(was.name, Scope.SUBMIT)).schedule.definition
        return now.named != was.named

    async def _found(self, text: str, scope: Scope) -> Seen:
        """A schedule of a queue for which the caller has this scope. Raises InvalidField, PeerNotFound."""
        name = fields.name(text, "name")
        seen = await self._store.find(name)
        if seen is None or not current_caller().may(scope, seen.schedule.definition.queue):
            raise PeerNotFound("schedule", repr(name))
        return seen

    async def _shown(self, name: str) -> pb.Schedule:
        """As it is now, after a change. Raises PeerNotFound if it was deleted meanwhile."""
        return _wire(await self._found(name, Scope.SUBMIT))

    async def _stored(self, name: str, slots: Sequence[datetime]) -> dict[datetime, FiredSlot]:
        return {each.slot: each for each in await self._store.stored_slots(name, slots)}

    async def _states(self, task_ids: Sequence[TaskId]) -> Mapping[TaskId, TaskState]:
        views = await self._reads.tasks(task_ids, _ONLY_STATE) if task_ids else []
        return {view.task_id: view.state for view in views if current_caller().sees(view.queue)}

    async def _record(self, action: str, name: str, details: Mapping[str, str] | None = None) -> None:
        await self._audit.record(current_caller().name, action, name, details)


def _elsewhere() -> RightMissing:
    beyond = "the queue of the schedule of that name"
    return RightMissing(current_caller().name, Scope.SUBMIT, beyond=beyond)


def _new_task_id(text: str) -> TaskId:
    """An id for a new task. Raises InvalidField, TaskIdOutOfWindow."""
    found = fields.task_id(text)
    for _, error in unusual_ids([hex_id(found)]):
        raise error
    return found


def _wire(seen: Seen, *, brief: bool = False) -> pb.Schedule:
    hidden = Scope.PAYLOAD not in current_caller().scopes
    return schedule_convert.schedule(seen.schedule, seen.now, hidden=hidden, brief=brief)


def _told(wanted: ScheduleDefinition) -> dict[str, str]:
    """For the audit."""
    return {"task": wanted.task, "queue": wanted.queue, "cron": wanted.cron, "tz": wanted.tz}
