"""Calls to the brokers of the URL, each with the token of the person who looks.

One channel at a time. When its broker does not answer, the next address is used, and a call that only reads
is made once more there.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio

from hyrex.address import parse_url, protect_token
from hyrex.transport.channel import open_address, spread
from hyrex.transport.errors import CallFailed, CallFailure, call_failure
from hyrex.transport.token import bearer_metadata
from hyrex.v1 import (
    admin_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_service_pb2_grpc,
    workflow_service_pb2_grpc,
)

CALL_WITHIN_S: Final = 5.0
# A page of a list ends by itself after 1.5 s of looking.
LINGER_S: Final = 3.0


@dataclass(slots=True)
class _Open:
    """One channel and the stubs on it."""

    channel: grpc.aio.Channel
    tasks: Any
    queues: Any
    admin: Any
    schedules: Any
    workflows: Any


class Brokers:
    """The brokers. For one event loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._addresses = spread(parse_url(url))
        self._at = 0
        self._open: _Open | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def several(self) -> bool:
        """True if there is another address to go to."""
        return len(self._addresses) > 1

    def as_seen_by(self, token: str | None) -> "VisitorCalls":
        """Calls with this token."""
        return VisitorCalls(self, token)

    async def call(self, service: str, method: str, request: Any, token: str | None) -> Any:
        """Make one call. Raises: CallFailed."""
        used, metadata = self._opened(), self._metadata(token)
        try:
            return await getattr(getattr(used, service), method)(
                request, timeout=CALL_WITHIN_S, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            failure = call_failure(error)
        if is_away(failure):
            self.leave(used)
        raise CallFailed(failure)

    async def stream(self, service: str, method: str, request: Any, token: str | None) -> AsyncIterator[Any]:
        """Yield what a call streams, until it ends. Raises: CallFailed."""
        used, metadata = self._opened(), self._metadata(token)
        call = getattr(getattr(used, service), method)(request, metadata=metadata)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            failure = call_failure(error)
            if is_away(failure):
                self.leave(used)
            raise CallFailed(failure) from None
        finally:
            call.cancel()

    def leave(self, used: _Open) -> None:
        """Use the next address from now on, if `used` is the one in use and there is another."""
        if used is not self._open or not self.several:
            return
        self._open = None
        self._at = (self._at + 1) % len(self._addresses)
        closing = asyncio.ensure_future(used.channel.close(LINGER_S))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close the channel."""
        if self._open is not None:
            await self._open.channel.close()

    def _metadata(self, token: str | None) -> tuple[tuple[str, str], ...]:
        """What carries the token. Raises: CallFailed if it would cross a network unencrypted: no broker is
        asked then, the others of the list neither."""
        try:
            protect_token(self._addresses, token)
        except ValueError as error:
            raise CallFailed(CallFailure(grpc.StatusCode.FAILED_PRECONDITION, str(error), "", {})) from None
        return bearer_metadata(token)

    def _opened(self) -> _Open:
        if self._open is None:
            channel = open_address(self._addresses[self._at])
            self._open = _Open(
                channel,
                task_service_pb2_grpc.TaskServiceStub(channel),
                queue_service_pb2_grpc.QueueServiceStub(channel),
                admin_service_pb2_grpc.AdminServiceStub(channel),
                schedule_service_pb2_grpc.ScheduleServiceStub(channel),
                workflow_service_pb2_grpc.WorkflowServiceStub(channel),
            )
        return self._open


@dataclass(frozen=True, slots=True)
class VisitorCalls:
    """Calls in the name of one person."""

    brokers: Brokers
    token: str | None

    async def read(self, service: str, method: str, request: Any) -> Any:
        """A call that changes nothing: once more at the next broker where the first is away.
        Raises: CallFailed."""
        try:
            return await self.brokers.call(service, method, request, self.token)
        except CallFailed as error:
            if not (self.brokers.several and is_away(error.failure)):
                raise
        return await self.brokers.call(service, method, request, self.token)

    async def act(self, service: str, method: str, request: Any) -> Any:
        """A call that changes something; never made twice. Raises: CallFailed."""
        return await self.brokers.call(service, method, request, self.token)


def is_away(failure: CallFailure) -> bool:
    """True if the broker itself did not answer, or can do nothing now."""
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
    return failure.code in codes
