"""Parses the addresses of brokers (HYREX_BROKER_URL). Needs no gRPC.

A URL is `grpc://host:port`, or `grpcs://host:port` for TLS. Several brokers of one cluster may be given,
separated by commas.
"""

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["HOW_TO_REACH_ONE", "Address", "is_loopback", "parse_url", "protect_token", "trusted_url"]

HOW_TO_REACH_ONE: Final = "Start one with `hyrex dev`, or set HYREX_BROKER_URL."
"""What to do where no broker answers."""
DEFAULT_PORT: Final = 50051
URL: Final = re.compile(r"(grpcs?)://(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class Address:
    """One broker's address."""

    target: str
    secure: bool

    @property
    def url(self) -> str:
        """The URL of this address, as a user writes it."""
        return f"{'grpcs' if self.secure else 'grpc'}://{self.target}"

    @property
    def is_private(self) -> bool:
        """Return True if what is sent there stays on this machine, or is encrypted. A name other than
        localhost may be any machine's."""
        return self.secure or is_loopback(self.target.rpartition(":")[0].strip("[]"))


def is_loopback(host: str) -> bool:
    """Return True for an address of this machine alone, or the name localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parse_url(url: str) -> list[Address]:
    """The addresses of a broker URL. Raises ValueError, with an example of a valid one."""
    found = [_parse_one(part.strip(), url) for part in url.split(",")]
    if len({address.secure for address in found}) > 1:
        raise ValueError(f"broker URL {url!r} mixes grpc:// and grpcs://; use one of them for all brokers")
    return found


def trusted_url(url: str, token: str | None) -> list[Address]:
    """The addresses of a broker URL, if this token may be sent there. Raises ValueError."""
    addresses = parse_url(url)
    protect_token(addresses, token)
    return addresses


def protect_token(addresses: Sequence[Address], token: str | None) -> None:
    """Raises ValueError for a token that would cross a network unencrypted; HYREX_INSECURE=1 allows it."""
    if not token or os.environ.get("HYREX_INSECURE") == "1":
        return
    for address in addresses:
        if not address.is_private:
            raise ValueError(
                f"the token would cross the network unencrypted to {address.url}: use grpcs:// (TLS), or set"
                " HYREX_INSECURE=1 where something else protects the network"
            )


def _parse_one(part: str, url: str) -> Address:
    match = URL.fullmatch(part)
    if match is None or not 0 < int(match[3] or DEFAULT_PORT) < 65_536:
        raise ValueError(f"broker URL {url!r} is not like grpc://host:50051 or grpcs://host:50051")
    return Address(f"{match[2]}:{match[3] or DEFAULT_PORT}", match[1] == "grpcs")
