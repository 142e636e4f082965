"""Channels to a broker: addresses, options, token.

A URL is `grpc://host:port`, or `grpcs://host:port` for TLS; several may be given, separated by
commas, where any broker of a cluster will do.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from hyrex.transport.token import token_interceptors

__all__ = ["Address", "open_address", "open_blocking", "open_channel", "parse_url", "spread"]

DEFAULT_PORT: Final = 50051
MIB: Final = 1024 * 1024
OPTIONS: Final = (
    ("grpc.max_send_message_length", 16 * MIB),
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Channels that share subchannels share their backoff too: a new one would wait out an old one's.
    ("grpc.use_local_subchannel_pool", 1),
)
URL: Final = re.compile(r"(grpcs?)://(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class Address:
    """One broker's address."""

    target: str
    secure: bool

    @property
    def url(self) -> str:
        """As a user writes it."""
        return f"{'grpcs' if self.secure else 'grpc'}://{self.target}"


def parse_url(url: str) -> list[Address]:
    """The addresses of a broker URL; raises ValueError saying what one looks like."""
    found = [_parse_one(part.strip(), url) for part in url.split(",")]
    if len({address.secure for address in found}) > 1:
        raise ValueError(f"broker URL {url!r} mixes grpc:// and grpcs://")
    return found


def spread(addresses: Sequence[Address]) -> list[Address]:
    """The addresses in an order of this client's own: those with one list do not all sit on its first.

    By the operating system's randomness: many a program seeds the module's own.
    """
    return random.SystemRandom().sample(addresses, len(addresses))


def _parse_one(part: str, url: str) -> Address:
    match = URL.fullmatch(part)
    if match is None or not 0 < int(match[3] or DEFAULT_PORT) < 65_536:
        raise ValueError(f"broker URL {url!r} is not like grpc://host:50051 or grpcs://host:50051")
    return Address(f"{match[2]}:{match[3] or DEFAULT_PORT}", match[1] == "grpcs")


def open_channel(url: str, token: str | None = None) -> grpc.aio.Channel:
    """A channel to the first address of the URL. Open it inside the loop that will use it."""
    return open_address(parse_url(url)[0], token)


def open_address(address: Address, token: str | None = None) -> grpc.aio.Channel:
    """A channel to one address, each call of which carries the token."""
    interceptors = token_interceptors(token)
    if address.secure:
        credentials = grpc.ssl_channel_credentials()
        return grpc.aio.secure_channel(address.target, credentials, OPTIONS, interceptors=interceptors)
    return grpc.aio.insecure_channel(address.target, OPTIONS, interceptors=interceptors)


def open_blocking(address: Address) -> grpc.Channel:
    """A channel to one address for blocking calls; close it."""
    if address.secure:
        return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(), OPTIONS)
    return grpc.insecure_channel(address.target, OPTIONS)
