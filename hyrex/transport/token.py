"""The bearer token on every call of a channel."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc.aio

from hyrex.transport.kept_status import keep_status

__all__ = ["bearer_metadata", "token_interceptors"]

KEY: Final = "authorization"


def bearer_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Metadata with the token; empty without a token."""
    return () if token is None else ((KEY, f"Bearer {token}"),)


def token_interceptors(token: str | None) -> Sequence[grpc.aio.ClientInterceptor]:
    """Interceptors that add the token to calls of every kind."""
    if token is None:
        return ()
    metadata = bearer_metadata(token)
    return (_UnaryUnary(metadata), _UnaryStream(metadata), _StreamUnary(metadata), _StreamStream(metadata))


class _WithMetadata:
    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def _tell(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._metadata)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _UnaryUnary(_WithMetadata, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self._tell(client_call_details), request)


class _UnaryStream(_WithMetadata, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self._tell(client_call_details), request)


class _StreamUnary(_WithMetadata, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        return keep_status(await continuation(self._tell(client_call_details), request_iterator))


class _StreamStream(_WithMetadata, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        return keep_status(await continuation(self._tell(client_call_details), request_iterator))
