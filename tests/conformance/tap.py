"""A gRPC proxy that reads the frames between a worker and its broker.

Every method passes through as bytes: on the wire a unary call is a stream of one message. Work streams are
also read, checked (rules.py), salted with frames that a worker must ignore, and, for the suite's proof
of itself, falsified on request.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from hyrex.transport.kept_status import keep_status
from hyrex.v1 import worker_service_pb2 as wire
from tests.conformance.rules import Rules

WORK: Final = "/hyrex.v1.WorkerService/Work"
OF_SENDERS: Final = ("/hyrex.v1.TaskService/", "/hyrex.v1.ScheduleService/", "/hyrex.v1.QueueService/")
MIB: Final = 1024 * 1024
OPTIONS: Final = (
    ("grpc.max_send_message_length", 64 * MIB),
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
UNKNOWN_FRAMES: Final = (b"", b"\xa2\x06\x03abc")  # an unset frame; a frame of a later version (field 100)

Falsify = Callable[[wire.WorkRequest], wire.WorkRequest]


@dataclass
class Tap:
    """Listens on a port of its own and forwards to `upstream` (host:port), which may change at any time."""

    upstream: str
    rules: Rules = field(default_factory=Rules)
    falsify: Falsify | None = None
    gateway: str = ""
    """host:port to which goes what senders call; empty: to `upstream`, too."""
    port: int = 0
    _answers: dict[str, deque[tuple[Status, bool]]] = field(default_factory=dict)
    _server: grpc.aio.Server | None = None
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    async def start(self) -> None:
        """Serve."""
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((_Everything(self._serve),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """Serve no more."""
        if self._server is not None:
            await self._server.stop(None)
        for channel in self._channels.values():
            await channel.close()

    def answer_next(
        self, method: str, code: str, reason: str, metadata: dict[str, str], until_told: bool
    ) -> None:
        """End a call of this method so, without asking the broker: the next one that has no answer yet.

        Without a `reason` it ends as one whose connection broke, with OK as one of a broker that goes away.
        `until_told`: end every call so until this is called again, for clients repeat what is UNAVAILABLE.
        """
        number: int = grpc.StatusCode[code].value[0]
        status = Status(code=number, message=f"{reason or code} on purpose \N{EN DASH} nothing is wrong")
        if reason:
            info = Packed()
            info.Pack(ErrorInfo(domain="hyrex.dev", reason=reason, metadata=metadata))
            status.details.append(info)
        waiting = self._answers.setdefault(method, deque())
        if waiting and waiting[-1][1]:
            waiting.clear()
        waiting.append((status, until_told))

    def unasked(self) -> list[str]:
        """Answers that no call came for."""
        return [
            f"no call of {method} came to be answered {status.message}"
            for method, answers in self._answers.items()
            for status, until_told in answers
            if not until_told
        ]

    def _channel(self, method: str) -> grpc.aio.Channel:
        address = self.gateway if self.gateway and method.startswith(OF_SENDERS) else self.upstream
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=OPTIONS)
        return self._channels[address]

    async def _serve(
        self, method: str, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> None:
        name = method.rpartition("/")[2]
        if answers := self._answers.get(name):
            status, until_told = answers[0]
            if not until_told:
                answers.popleft()
            await self._end(context, status)
            return
        metadata = tuple(
            (key, value) for key, value in context.invocation_metadata() or () if key == "authorization"
        )
        multi: Any = self._channel(method).stream_stream(method, None, None)
        call = keep_status(multi(metadata=metadata, timeout=context.time_remaining()))
        stream = self.rules.stream() if method == WORK else None
        sender = asyncio.create_task(self._send(requests, call, stream))
        try:
            await self._receive(call, context, stream)
        finally:
            sender.cancel()
            call.cancel()
            if stream is not None:
                stream.closed()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, requests: AsyncIterator[bytes], call: Any, stream: Any) -> None:
        async for request in requests:
            if stream is not None:
                frame = wire.WorkRequest.FromString(request)
                frame = self.falsify(frame) if self.falsify is not None else frame
                stream.from_worker(frame)
                await call.write(frame.SerializeToString())
            else:
                await call.write(request)
        await call.done_writing()

    async def _receive(self, call: Any, context: Any, stream: Any) -> None:
        try:
            while isinstance(response := await call.read(), bytes):
                frame = wire.WorkResponse.FromString(response) if stream is not None else None
                if frame is not None:
                    stream.from_broker(frame)
                await context.write(response)
                if frame is not None and frame.HasField("welcome"):
                    for unknown in UNKNOWN_FRAMES:
                        await context.write(unknown)
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                await self._abort(context, code, await call.details(), await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            await self._abort(context, error.code(), error.details(), error.trailing_metadata())

    async def _end(self, context: Any, status: Status) -> None:
        code = next(each for each in grpc.StatusCode if each.value[0] == status.code)
        packed = (("grpc-status-details-bin", status.SerializeToString()),) if status.details else ()
        if code is not grpc.StatusCode.OK:
            await context.abort(code, status.message, packed)

    async def _abort(self, context: Any, code: grpc.StatusCode, details: str | None, trailing: Any) -> None:
        kept = tuple((key, value) for key, value in trailing or () if key == "grpc-status-details-bin")
        await context.abort(code, details or "", kept)


class _Everything(grpc.GenericRpcHandler):
    """One handler for every method there is or will be."""

    def __init__(self, serve: Callable[..., Any]) -> None:
        self._serve = serve

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def handle(requests: Any, context: Any) -> None:
            await self._serve(details.method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)
