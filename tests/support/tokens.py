"""Tokens for tests, made by a broker's own RPC, and calls that carry them."""

from collections.abc import Sequence
from typing import Any

from hyrex.v1 import admin_service_pb2 as wire
from hyrex.v1 import admin_service_pb2_grpc

_SCOPES = {name.removeprefix("TOKEN_SCOPE_").lower(): number for name, number in wire.TokenScope.items()}


def bearer(token: str) -> tuple[tuple[str, str]]:
    """Metadata of a call."""
    return (("authorization", f"Bearer {token}"),)


def wanted(name: str, scopes: str, *queues: str) -> wire.CreateTokenRequest:
    """A request for a token; scopes with spaces between them."""
    return wire.CreateTokenRequest(
        name=name, scopes=[_SCOPES[scope] for scope in scopes.split()], queue_patterns=queues or ["*"]
    )


async def made(admin: Any, root: str, name: str, scopes: str, *queues: str) -> Sequence[tuple[str, str]]:
    """A new token, as metadata of calls. `admin`: a stub of AdminService."""
    answer = await admin.CreateToken(wanted(name, scopes, *queues), metadata=bearer(root))
    return bearer(answer.secret)


def made_by(channel: Any, root: str, name: str, scopes: str, *queues: str) -> str:
    """A new token, over a channel for blocking calls."""
    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    secret: str = stub.CreateToken(wanted(name, scopes, *queues), metadata=bearer(root), timeout=60).secret
    return secret
