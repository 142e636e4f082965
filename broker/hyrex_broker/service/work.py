"""WorkerService: one stream for each worker session, and the RPC with which a launcher ends a session."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc.aio
from google.protobuf.message import DecodeError

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1 import worker_service_pb2_grpc
from hyrex_broker.domain.errors import (
    BrokerError,
    Draining,
    FlowControl,
    HelloExpected,
    SessionEnded,
    TooManyItems,
)
from hyrex_broker.domain.model import Outcome, RunEnd, SessionId, Token
from hyrex_broker.engine.liveness.heartbeats import Heartbeats
from hyrex_broker.engine.liveness.progress import RunsProgress
from hyrex_broker.engine.reports import RunReports
from hyrex_broker.engine.sessions.registry import LEAVE_REASON, Sessions
from hyrex_broker.engine.sessions.resumption import Resumption
from hyrex_broker.engine.sessions.session import Introduction, ServedSession
from hyrex_broker.engine.sessions.welcomes import Welcomes
from hyrex_broker.service import fields, reported, requests, times
from hyrex_broker.service import worker_convert as convert
from hyrex_broker.service.callers import current_caller, token_ended, when_token_ends
from hyrex_broker.service.errors import undecodable
from hyrex_broker.service.outbox import FRAME_BYTES, Backlogs, StreamOutbox
from hyrex_broker.service.progress import progress_of
from hyrex_broker.service.receiving import hold
from hyrex_broker.service.work_rights import within_rights

log = logging.getLogger(__name__)

MOST_UNACKNOWLEDGED: Final = 20_000
_HELLO_WITHIN_S: Final = 10.0
_LAST_WRITE_WITHIN_S: Final = 5.0
_REASON_BYTES: Final = 1000


@dataclass(slots=True)
class WorkEngine:
    """The parts of the engine that WorkerService uses, and the settings that it tells workers."""

    sessions: Sessions
    reports: RunReports
    heartbeats: Heartbeats
    progress: RunsProgress
    broker_name: str
    lease_duration: timedelta
    heartbeat_interval: timedelta
    payload_limit_bytes: int
    draining: bool = False
    welcomes: Welcomes = field(default_factory=Welcomes)
    backlogs: Backlogs = field(default_factory=Backlogs)


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """Serves workers."""

    def __init__(self, engine: WorkEngine) -> None:
        self._engine = engine

    async def Work(  # type: ignore[override]  # writes through the context, yields nothing
        self, request_iterator: AsyncIterator[wire.WorkRequest], context: Any
    ) -> None:
        if self._engine.draining:
            raise Draining("this broker is shutting down; connect to another")
        await WorkStream(self._engine, request_iterator, context).serve()

    async def EndSession(self, request: wire.EndSessionRequest, context: Any) -> wire.EndSessionResponse:
        reason = fields.short_text(request.reason, "reason", _REASON_BYTES) or "ended by its launcher"
        number = _session_id(request.session_id)
        session = self._engine.sessions.by_id.get(number)
        ended = await self._engine.reports.end_session(number, request.session_secret, Outcome.LOST, reason)
        if session is not None:
            session.link.end(SessionEnded(f"session {number} was ended from outside: {reason}"))
        return wire.EndSessionResponse(leases_ended=len(ended.ended))


def _session_id(text: str) -> SessionId:
    return SessionId(requests.number_id(text, "session_id"))


class WorkStream:
    """One stream, from Hello until either side ends it. The end of the stream does not end the session."""

    def __init__(self, engine: WorkEngine, frames: AsyncIterator[wire.WorkRequest], context: Any) -> None:
        self._engine = engine
        self._frames = frames
        self._context = context
        self._outbox = StreamOutbox(engine.backlogs)
        self._unacknowledged = 0
        self._unknown_frames = 0

    async def serve(self) -> None:
        """Read and write until the end; raises the BrokerError that ended the stream."""
        when_token_ends(lambda: self._outbox.end(token_ended()))
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write_while_read())
                reader = group.create_task(self._read_until_refused(group))
                ended = group.create_task(self._outbox.ended())
                # The first that ends, ends the others: each of them may wait for ever.
                await asyncio.wait({reader, writer, ended}, return_when=asyncio.FIRST_COMPLETED)
                if reader.done():
                    self._outbox.finish()
                reader.cancel()
                # A write under way is not cancelled: until it ends, gRPC cannot send the worker a status.
                await asyncio.wait({writer}, timeout=_LAST_WRITE_WITHIN_S)
                for task in (writer, reader, ended):
                    task.cancel()
        except* BrokerError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._outbox.close()
        if self._outbox.error is not None:
            raise self._outbox.error

    async def _write_while_read(self) -> None:
        try:
            await self._outbox.write(self._context.write)
        except grpc.aio.InternalError:
            log.debug("a write to the worker failed; it is gone")

    async def _read_until_refused(self, group: asyncio.TaskGroup) -> None:
        try:
            await self._read(group)
        except BrokerError as error:
            self._outbox.end(error)
        except DecodeError as error:
            self._outbox.end(undecodable(error))

    async def _read(self, group: asyncio.TaskGroup) -> None:
        watchdog = group.create_task(self._expect_hello())
        session: ServedSession | None = None
        try:
            async for frame in self._frames:
                kind = frame.WhichOneof("frame")
                if session is None:
                    watchdog.cancel()
                    session = await self._begin(frame, kind)
                elif kind == "goodbye":
                    await self._goodbye(session)
                    return
                else:
                    self._take(session, frame, kind, group)
        finally:
            watchdog.cancel()
            if session is not None:
                self._engine.sessions.leave(session)

    async def _expect_hello(self) -> None:
        await asyncio.sleep(_HELLO_WITHIN_S)
        self._outbox.end(HelloExpected(f"no Hello within {_HELLO_WITHIN_S:.0f} s; send it first"))

    async def _begin(self, frame: wire.WorkRequest, kind: str | None) -> ServedSession:
        if kind != "hello":
            raise HelloExpected(f"the first frame was {kind or 'empty'}; send Hello first")
        introduction, elsewhere = convert.introduction(frame.hello), self._engine.sessions.tasks_elsewhere
        async with self._engine.welcomes.place():
            schedules = await convert.schedules(frame.hello, self._engine.payload_limit_bytes)
            introduction = replace(introduction, schedules=schedules)
            allowed = await within_rights(introduction, current_caller(), elsewhere)
            return await self._admit(frame.hello, allowed)

    async def _admit(self, hello: wire.Hello, introduction: Introduction) -> ServedSession:
        """Resume the session that it names, or begin a new one."""
        sessions, origin = self._engine.sessions, None
        if hello.session_id:
            number, secret = _session_id(hello.session_id), hello.session_secret
            try:
                resumption = await sessions.resume(number, secret, introduction, self._outbox)
            except SessionEnded:
                log.info("session to resume has ended", extra={"session": hello.session_id})
                origin = await sessions.origin(number, secret)
            else:
                try:
                    await self._welcome_back(resumption)
                except BaseException:
                    sessions.leave(resumption.session)
                    raise
                return resumption.session
        session = await sessions.open(introduction, self._outbox, origin)
        self._welcome(session, resumed=False, adopted=[], revoked=list(hello.held))
        return session

    async def _welcome_back(self, resumption: Resumption) -> None:
        session = resumption.session
        self._welcome(
            session,
            resumed=True,
            adopted=convert.refs(resumption.adopted),
            revoked=convert.refs(resumption.revoked),
        )
        if resumption.to_leave:
            self._outbox.push_leave(LEAVE_REASON)
        if resumption.cancels:
            self._outbox.push_cancels(resumption.cancels)
        ends = resumption.ends()
        if ends:
            await self._engine.reports.report(ends, session.session_id)

    def _welcome(
        self,
        session: ServedSession,
        *,
        resumed: bool,
        adopted: Sequence[wire.LeaseRef],
        revoked: Sequence[wire.LeaseRef],
    ) -> None:
        engine = self._engine
        welcome = wire.Welcome(
            session_id=str(session.session_id),
            session_secret=session.secret,
            resumed=resumed,
            lease_duration=times.duration(engine.lease_duration.total_seconds() * 1000),
            heartbeat_interval=times.duration(engine.heartbeat_interval.total_seconds() * 1000),
            max_frame_bytes=FRAME_BYTES,
            max_unacknowledged_reports=MOST_UNACKNOWLEDGED,
            adopted=adopted,
            revoked=revoked,
            broker=self._engine.broker_name,
            server_time=times.timestamp(datetime.now(UTC)),
            max_payload_bytes=self._engine.payload_limit_bytes,
        )
        self._outbox.push(wire.WorkResponse(welcome=welcome))

    def _take(
        self, session: ServedSession, frame: wire.WorkRequest, kind: str | None, group: asyncio.TaskGroup
    ) -> None:
        """Act on one frame without waiting: readers never wait for a queue (rule 15)."""
        match kind:
            case "report":
                self._report(session, frame.report, group)
            case "heartbeat":
                self._heartbeat(session, frame.heartbeat, group)
            case "capacity":
                pools = convert.changed_capacity(frame.capacity.pools, session.capacity)
                self._engine.sessions.set_capacity(session, pools, convert.slots(frame.capacity.pools))
            case "drain":
                self._engine.sessions.drain_itself(session)
            case "hello":
                raise HelloExpected("a second Hello on one stream; open a new stream")
            case _:
                self._unknown_frames += 1

    def _report(self, session: ServedSession, report: wire.Report, group: asyncio.TaskGroup) -> None:
        blocks, others = reported.ends(report, session, self._engine.payload_limit_bytes)
        count = sum(map(len, blocks)) + len(others)
        self._unacknowledged += count
        if self._unacknowledged > MOST_UNACKNOWLEDGED:
            raise FlowControl(
                f"{self._unacknowledged} runs are reported and not acknowledged; wait for acknowledgements",
                {"limit": str(MOST_UNACKNOWLEDGED)},
            )
        recorded = reported.recorded(self._engine.reports, session.session_id, blocks, others)
        group.create_task(self._acknowledge(report.report_id, count, recorded, hold(self._frames)))

    async def _acknowledge(
        self, report_id: int, count: int, recorded: Awaitable[wire.ReportAck], release: Callable[[], None]
    ) -> None:
        ack = await recorded
        self._unacknowledged -= count
        release()
        ack.report_id = report_id
        self._outbox.push(wire.WorkResponse(report_ack=ack))

    def _heartbeat(self, session: ServedSession, beat: wire.Heartbeat, group: asyncio.TaskGroup) -> None:
        if len(beat.held_tokens) > convert.MOST_CAPACITY:
            raise TooManyItems(len(beat.held_tokens), convert.MOST_CAPACITY)
        held = [*map(Token, beat.held_tokens)]
        heartbeats = self._engine.heartbeats
        if beat.progress:
            self._engine.progress.told(progress_of(beat.progress, session))
        orphans = heartbeats.beat(session, beat.sequence, held, beat.received_through)
        unread = heartbeats.silent(session, held)
        if orphans or unread:
            group.create_task(self._return(session, [*orphans, *unread]))
        if unread:
            raise FlowControl(
                f"{len(unread)} runs were sent and no receipt has come for them within"
                f" {self._engine.lease_duration.total_seconds():.0f} s; read the stream, and say how far in"
                " received_through"
            )

    async def _return(self, session: ServedSession, orphans: list[RunEnd]) -> None:
        await self._engine.reports.report(orphans, session.session_id)

    async def _goodbye(self, session: ServedSession) -> None:
        await self._engine.reports.end_session(
            session.session_id, session.secret, Outcome.RELEASED, "its worker left"
        )
