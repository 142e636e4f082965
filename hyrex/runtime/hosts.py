"""Names of hosts in requests over HTTP.

A page of another site can make its own name point to this machine, and read with a browser what is for the
machine's own people (DNS rebinding). It has to use a name that it can register: no address, and no name
without a dot.
"""

import ipaddress
from urllib.parse import urlsplit

__all__ = ["anybody_can_register", "host_name"]


def host_name(host: str) -> str:
    """The name in a Host header, without its port, in lower case; empty where it makes no sense."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.path or parts.query or parts.fragment or "@" in host or "\\" in host:
        return ""
    return (parts.hostname or "").removesuffix(".")


def anybody_can_register(name: str) -> bool:
    """True unless it is an address or a name without a dot, in the form that `host_name` returns."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name or not name
    return False
