"""grpc.health.v1: whether this broker takes calls, for load balancers and orchestrators.

All services have the same status: they serve unless the broker drains or cannot reach its database.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hyrex_broker.service.receiving import Context

_Response: TypeAlias = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # no types in grpc_health
    """Answers for every named service, and for "" as the whole."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._draining = False
        self._database = True
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        """True unless the broker drains or cannot reach its database."""
        return self._database and not self._draining

    def reachable(self, reachable: bool) -> None:
        """Note whether the database answers, or behind a gateway any cell."""
        self._database = reachable
        self._announce()

    def drain(self) -> None:
        """Note, for good, that this broker stops."""
        self._draining = True
        self._announce()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> _Response:
        status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return _Response(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[_Response]:
        told: int | None = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                told = status
                yield _Response(status=status)
            await changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_Response.SERVICE_UNKNOWN)
        return int(_Response.SERVING if self.serving else _Response.NOT_SERVING)

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
