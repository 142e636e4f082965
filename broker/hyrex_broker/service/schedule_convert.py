"""Checks schedules that come over the wire, and converts stored ones."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from hyrex.runtime.cron import Cron, ScheduleInvalid
from hyrex.v1 import schedule_pb2, schedule_service_pb2, task_pb2
from hyrex_broker.domain.errors import BrokerError, InvalidField, PayloadOverLimit, TooManyItems
from hyrex_broker.domain.model import NOTHING_CARRIED, TaskId, priority_of
from hyrex_broker.domain.schedules import (
    SCHEDULE_LABEL,
    SLOT_HEADER,
    CatchUp,
    Cause,
    FiredSlot,
    ScheduleDefinition,
    ScheduleOptions,
    ScheduleSource,
    StoredSchedule,
)
from hyrex_broker.domain.states import TaskState
from hyrex_broker.service import fields
from hyrex_broker.service.key_terms import refuse_without_key
from hyrex_broker.service.terms import MAP_BYTES, KnownTerms, checked_headers, refuse_unknown
from hyrex_broker.service.times import duration, duration_if_any, timestamp, timestamp_if_any

LONGEST_JITTER_S: Final = 86_400
NEXT_SLOTS: Final = 3
MOST_BACKFILLED: Final = 1000
_SLOT: Final = "2026-01-01T00:00:00.000000Z"
_OWN: Final = ("task_id", "idempotency_key", "parent_id", "root_id")
_NOT_YET: Final = ("debounce_key", "outside")
_WIRE_NAMES: Final = {"tz": "timezone"}
_CATCH_UPS: Final = {
    schedule_pb2.CATCH_UP_UNSPECIFIED: CatchUp.LATEST,
    schedule_pb2.CATCH_UP_LATEST: CatchUp.LATEST,
    schedule_pb2.CATCH_UP_ALL: CatchUp.ALL,
}
_CATCH_UP_NUMBERS: Final = {
    CatchUp.LATEST: schedule_pb2.CATCH_UP_LATEST,
    CatchUp.ALL: schedule_pb2.CATCH_UP_ALL,
}
_SOURCES: Final = {
    ScheduleSource.CODE: schedule_service_pb2.SCHEDULE_SOURCE_CODE,
    ScheduleSource.OPERATOR: schedule_service_pb2.SCHEDULE_SOURCE_OPERATOR,
}
_CAUSES: Final = {
    Cause.DUE: schedule_service_pb2.SLOT_CAUSE_DUE,
    Cause.MISSED: schedule_service_pb2.SLOT_CAUSE_MISSED,
    Cause.BACKFILL: schedule_service_pb2.SLOT_CAUSE_BACKFILL,
    Cause.TRIGGER: schedule_service_pb2.SLOT_CAUSE_TRIGGER,
}


def definition(
    wanted: schedule_pb2.ScheduleDefinition,
    field: str,
    source: ScheduleSource,
    payload_limit: int | None = None,
) -> ScheduleDefinition:
    """A checked schedule. Raises InvalidField, PayloadOverLimit."""
    refuse_unknown(wanted, field)
    jitter_ms = fields.milliseconds(wanted.jitter, f"{field}.jitter", least=0)
    jitter_s = fields.integer(-(-jitter_ms // 1000), f"{field}.jitter", 0, LONGEST_JITTER_S)
    try:
        cron = Cron(wanted.cron, wanted.timezone)
        if jitter_s:
            cron.require_shorter(jitter_s)
    except ScheduleInvalid as error:
        name = _WIRE_NAMES.get(error.field, error.field)
        raise InvalidField(f"{field}.{name}", error.value, error.remedy) from None
    if wanted.catch_up not in _CATCH_UPS:
        raise InvalidField(f"{field}.catch_up", wanted.catch_up, "must be CATCH_UP_LATEST or CATCH_UP_ALL")
    task = wanted.task
    if payload_limit is not None and len(task.payload) > payload_limit:
        raise PayloadOverLimit(f"{field}.task.payload", len(task.payload), payload_limit)
    return ScheduleDefinition(
        name=fields.name(wanted.name, f"{field}.name"),
        task=fields.name(task.name, f"{field}.task.name"),
        queue=fields.name(task.queue, f"{field}.task.queue"),
        cron=wanted.cron,
        tz=wanted.timezone or "UTC",
        payload=task.payload,
        options=_options(task, field, wanted.name),
        catchup=_CATCH_UPS[wanted.catch_up],
        jitter_s=jitter_s,
        source=source,
        paused=wanted.paused,
    )


def _options(task: task_pb2.NewTask, field: str, name: str) -> ScheduleOptions:
    """The terms of its tasks. Raises InvalidField."""
    for own in _OWN:
        if value := getattr(task, own):
            raise InvalidField(f"{field}.task.{own}", value, "must stay empty: each slot's task has its own")
    for key in _NOT_YET:
        if value := getattr(task, key):
            words = "must stay empty: the tasks of a schedule have none"
            raise InvalidField(f"{field}.task.{key}", value, words)
    refused: dict[int, BrokerError] = {}
    refuse_without_key(task, [task.concurrency_key], refused, 1)
    if refused:
        raise refused[0]
    if start := task.WhichOneof("start"):
        raise InvalidField(f"{field}.task.{start}", str(start), "must stay empty: the slot says when")
    bare = task_pb2.NewTask()
    bare.CopyFrom(task)
    bare.ClearField("payload")
    bare.ClearField("headers")
    concurrency_key = fields.short_text(task.concurrency_key, f"{field}.task.concurrency_key")
    fair_key = fields.short_text(task.fair_key, f"{field}.task.fair_key")
    bare.ClearField("concurrency_key")
    bare.ClearField("fair_key")
    terms = KnownTerms().of(bare).terms
    carried = NOTHING_CARRIED if terms.extras is None else terms.extras.carried
    labels = {} if terms.extras is None else terms.extras.labels
    headers = checked_headers(dict(task.headers))
    # With what each slot's task has besides: whoever replays one submits all of it.
    fields.texts(labels | {SCHEDULE_LABEL: name}, f"{field}.task.labels", MAP_BYTES)
    fields.texts(headers | {SLOT_HEADER: _SLOT}, f"{field}.task.headers", MAP_BYTES)
    return ScheduleOptions(
        rank=terms.rank,
        max_retries=terms.max_retries,
        timeout_ms=terms.timeout_ms,
        retry_delay_ms=terms.retry_delay_ms,
        content_type=carried.content_type,
        codec=carried.codec,
        headers=headers,
        labels=labels,
        expires_in_ms=None if terms.extras is None else terms.extras.expires_in_ms,
        concurrency_key=concurrency_key or None,
        max_per_key=1 if terms.extras is None else terms.extras.max_per_key,
        refuses_to_wait=terms.extras is not None and terms.extras.refuses_to_wait,
        fair_key=fair_key or None,
    )


def schedule(
    found: StoredSchedule, now: datetime, *, hidden: bool, brief: bool = False
) -> schedule_service_pb2.Schedule:
    """A schedule for the wire. `hidden`: without what its tasks carry; `brief`: without the payload."""
    wanted = found.definition
    return schedule_service_pb2.Schedule(
        definition=schedule_pb2.ScheduleDefinition(
            name=wanted.name,
            cron=wanted.cron,
            timezone=wanted.tz,
            task=_task(wanted, hidden=hidden, brief=brief),
            catch_up=_CATCH_UP_NUMBERS[wanted.catchup],
            jitter=duration(wanted.jitter_s * 1000) if wanted.jitter_s else None,
            paused=wanted.paused,
        ),
        paused=wanted.paused,
        source=_SOURCES[wanted.source],
        next_at=timestamp(found.next_at),
        last_slot_at=timestamp_if_any(found.last_slot),
        last_task_id=found.last_task_id or "",
        next_slots=map(timestamp, _next_slots(found, now)),
    )


def _task(wanted: ScheduleDefinition, *, hidden: bool, brief: bool) -> task_pb2.NewTask:
    options = wanted.options
    return task_pb2.NewTask(
        name=wanted.task,
        queue=wanted.queue,
        payload=b"" if hidden or brief else wanted.payload,
        content_type=options.content_type or "",
        codec=options.codec or "",
        priority=priority_of(options.rank),
        max_retries=options.max_retries,
        timeout=duration_if_any(options.timeout_ms),
        retry_delay=duration_if_any(options.retry_delay_ms),
        expires_in=duration_if_any(options.expires_in_ms),
        concurrency_key=options.concurrency_key or "",
        max_per_key=options.max_per_key if options.concurrency_key else 0,
        on_full=task_pb2.ON_FULL_REFUSE if options.refuses_to_wait else task_pb2.ON_FULL_UNSPECIFIED,
        fair_key=options.fair_key or "",
        headers={} if hidden else options.headers,
        labels=options.labels,
    )


def _next_slots(found: StoredSchedule, now: datetime) -> list[datetime]:
    wanted = found.definition
    if wanted.paused:
        return []
    try:
        return Cron(wanted.cron, wanted.tz).next_slots(now, NEXT_SLOTS)
    except ScheduleInvalid:  # its zone is not known here
        return []


def slot(found: FiredSlot, states: Mapping[TaskId, TaskState]) -> schedule_service_pb2.ScheduleSlot:
    """A slot that has its task."""
    return schedule_service_pb2.ScheduleSlot(
        slot_at=timestamp(found.slot),
        task_id=found.task_id,
        cause=_CAUSES[found.cause],
        stored_at=timestamp(found.stored_at),
        status=task_pb2.TaskStatus.ValueType(states.get(found.task_id, 0)),
    )


def backfilled(
    slots: Iterable[datetime], stored: Mapping[datetime, FiredSlot]
) -> list[schedule_service_pb2.ScheduleSlot]:
    """Slots, with their tasks where they have one."""
    return [
        slot(stored[each], {})
        if each in stored
        else schedule_service_pb2.ScheduleSlot(slot_at=timestamp(each))
        for each in slots
    ]


def slots_between(
    request: schedule_service_pb2.BackfillScheduleRequest, wanted: ScheduleDefinition, now: datetime
) -> list[datetime]:
    """The slots to fill. Raises InvalidField, TooManyItems."""
    first = fields.moment(getattr(request, "from"), "from")
    until = fields.moment(request.until, "until") if request.HasField("until") else now
    if until > now:
        raise InvalidField("until", until.isoformat(), "must not be after now")
    if first >= until:
        raise InvalidField("from", first.isoformat(), f"must be before the end, {until.isoformat()}")
    slots = Cron(wanted.cron, wanted.tz).between(first, until, MOST_BACKFILLED + 1)
    if len(slots) > MOST_BACKFILLED:
        raise TooManyItems(len(slots), MOST_BACKFILLED)
    return slots
