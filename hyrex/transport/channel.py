"""Makes channels to a broker, with their options and the token."""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from hyrex.address import Address, parse_url, protect_token
from hyrex.transport.token import token_interceptors

__all__ = ["Address", "open_address", "open_blocking", "open_channel", "parse_url", "spread"]

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
    # Channels that share subchannels share their backoff too: a new one would wait for an old one's to pass.
    ("grpc.use_local_subchannel_pool", 1),
)


def spread(addresses: Sequence[Address]) -> list[Address]:
    """The addresses in random order, so that clients with the same list do not all use the first.

    By the operating system's randomness, since programs seed the generator of the module `random`.
    """
    return random.SystemRandom().sample(addresses, len(addresses))


def open_channel(url: str, token: str | None = None) -> grpc.aio.Channel:
    """A channel to the first address of the URL. Open it inside the loop that will use it."""
    return open_address(parse_url(url)[0], token)


def open_address(address: Address, token: str | None = None) -> grpc.aio.Channel:
    """A channel to one address, each call of which carries the token. Raises ValueError for a token that
    would cross a network unencrypted."""
    protect_token([address], token)
    interceptors = token_interceptors(token)
    if address.secure:
        return grpc.aio.secure_channel(address.target, _credentials(), OPTIONS, interceptors=interceptors)
    return grpc.aio.insecure_channel(address.target, OPTIONS, interceptors=interceptors)


def open_blocking(address: Address) -> grpc.Channel:
    """A channel to one address for blocking calls; close it."""
    if address.secure:
        return grpc.secure_channel(address.target, _credentials(), OPTIONS)
    return grpc.insecure_channel(address.target, OPTIONS)


def _credentials() -> grpc.ChannelCredentials:
    """TLS, with this client's certificate if it has one. Read anew for each channel, since certificates are
    replaced. Raises ValueError for files that cannot be read."""
    cert, key = os.environ.get("HYREX_TLS_CERT"), os.environ.get("HYREX_TLS_KEY")
    if not cert and not key:
        return grpc.ssl_channel_credentials()
    if not cert or not key:
        raise ValueError("HYREX_TLS_CERT and HYREX_TLS_KEY belong together; set both or neither")
    try:
        return grpc.ssl_channel_credentials(None, Path(key).read_bytes(), Path(cert).read_bytes())
    except OSError as error:
        raise ValueError(f"HYREX_TLS_CERT, HYREX_TLS_KEY: cannot be read ({error})") from None
