"""Calls of ScheduleService: plain values in and out, each on a connection of its own."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from hyrex.address import HOW_TO_REACH_ONE, trusted_url
from hyrex.backend.ids import new_task_id
from hyrex.backend.outgoing import prepare
from hyrex.backend.send_spec import SendSpec
from hyrex.config import Settings
from hyrex.errors import BrokerUnavailable
from hyrex.schedule import Schedule, ScheduleSlot
from hyrex.transport.blocking import BlockingCalls
from hyrex.transport.channel import spread
from hyrex.transport.convert import schedule_task
from hyrex.transport.errors import CallFailed
from hyrex.v1 import schedule_service_pb2 as pb
from hyrex.v1.schedule_pb2 import CATCH_UP_ALL, CATCH_UP_LATEST, ScheduleDefinition

__all__ = ["ScheduleCalls"]

T = TypeVar("T")
_METHOD: Final = "/{}/{{}}".format(pb.DESCRIPTOR.services_by_name["ScheduleService"].full_name)
_PAGE: Final = 1000


class ScheduleCalls(BlockingCalls):
    """Each raises BrokerUnavailable without an answer in time, CallRejected for a refusal."""

    def __init__(self, settings: Settings, url: str) -> None:
        """`url`: of the brokers to ask; they have the token and the patience of the settings."""
        self._url = url
        addresses = spread(trusted_url(url, settings.token))
        super().__init__(addresses, settings.token, settings.send_timeout_s)

    async def in_thread(self, call: "Callable[[ScheduleCalls], T]") -> T:
        """Make a call without blocking the running loop."""
        return await asyncio.to_thread(call, self)

    def put(self, *, spec: SendSpec, payload: bytes, **wanted: Any) -> Schedule:
        """Store a schedule."""
        jitter_s = wanted["jitter_s"]
        definition = ScheduleDefinition(
            name=wanted["name"],
            cron=wanted["cron"],
            timezone=wanted["tz"],
            task=schedule_task(prepare(spec, payload)),
            catch_up=CATCH_UP_ALL if wanted["catch_up"] == "all" else CATCH_UP_LATEST,
            paused=wanted["paused"],
        )
        if jitter_s:
            definition.jitter.FromTimedelta(timedelta(seconds=jitter_s))
        return _schedule(self._ask("PutSchedule", pb.PutScheduleRequest(definition=definition)).schedule)

    def list(self) -> "Sequence[Schedule]":
        """All, by name."""
        request = pb.ListSchedulesRequest(page_size=_PAGE)
        found: list[Schedule] = []
        while True:
            answer = self._ask("ListSchedules", request)
            found += map(_schedule, answer.schedules)
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    def pause(self, name: str, *, resume: bool) -> Schedule:
        """Pause it, or let it go on."""
        request = pb.PauseScheduleRequest(name=name, resume=resume)
        return _schedule(self._ask("PauseSchedule", request).schedule)

    def trigger(self, name: str) -> str:
        """Store one task of it; returns its id."""
        request = pb.TriggerScheduleRequest(name=name, task_id=new_task_id())
        return str(self._ask("TriggerSchedule", request).task_id)

    def backfill(
        self, name: str, start: datetime, end: datetime | None, dry_run: bool
    ) -> "Sequence[ScheduleSlot]":
        """Store the tasks of slots that have none."""
        request = pb.BackfillScheduleRequest(name=name, dry_run=dry_run)
        getattr(request, "from").FromDatetime(_aware("start", start))
        if end is not None:
            request.until.FromDatetime(_aware("end", end))
        answer = self._ask("BackfillSchedule", request)
        return [ScheduleSlot(each.slot_at.ToDatetime(tzinfo=UTC), each.task_id) for each in answer.slots]

    def delete(self, name: str) -> None:
        """Remove it. That it is gone, told to a repeat, is what an earlier attempt without an answer did."""
        self._ask("DeleteSchedule", pb.DeleteScheduleRequest(name=name), done_if="PEER_NOT_FOUND")

    def _ask(self, name: str, request: Message, *, done_if: str = "") -> Any:
        """The answer; None where a repeat is refused for the reason `done_if`."""
        response: Any = getattr(pb, f"{name}Response")
        attempts = 0

        def call(channel: grpc.Channel, within_s: float) -> Any:
            nonlocal attempts
            attempts += 1
            method: Any = channel.unary_unary(_METHOD.format(name), None, response.FromString)
            return method(request.SerializeToString(), timeout=within_s, metadata=self._metadata)

        try:
            return self._persist(call, self._within_s)[1]
        except CallFailed as error:
            failure = error.failure
        if attempts > 1 and failure.reason and failure.reason == done_if:
            return None
        if failure.repeatable:
            raise BrokerUnavailable(f"no answer from {self._url} in time ({failure}). {HOW_TO_REACH_ONE}")
        raise failure.exception()


def _schedule(found: pb.Schedule) -> Schedule:
    wanted = found.definition
    return Schedule(
        name=wanted.name,
        task_name=wanted.task.name,
        queue=wanted.task.queue,
        cron=wanted.cron,
        tz=wanted.timezone,
        catch_up="all" if wanted.catch_up == CATCH_UP_ALL else "latest",
        jitter=wanted.jitter.ToTimedelta(),
        paused=found.paused,
        source="code" if found.source == pb.SCHEDULE_SOURCE_CODE else "operator",
        next_at=found.next_at.ToDatetime(tzinfo=UTC),
        next_slots=tuple(each.ToDatetime(tzinfo=UTC) for each in found.next_slots),
        last_slot=found.last_slot_at.ToDatetime(tzinfo=UTC) if found.HasField("last_slot_at") else None,
        last_task_id=found.last_task_id,
    )


def _aware(what: str, moment: datetime) -> datetime:
    """Raises TypeError or ValueError for what is no time with a zone."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{what} must be a datetime, got {moment!r}")
    if moment.utcoffset() is None:
        raise ValueError(f"{what} must have a timezone, got {moment!r}")
    return moment.astimezone(UTC)
