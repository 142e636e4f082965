"""How asyncpg makes a network connection here: to one address of a server's name, with keepalives.

asyncpg asks its event loop for connections. What it is given in that place does everything as the loop does,
but connects to the address that was chosen, and sets the options that libpq sets on its sockets.
"""

import asyncio
import ipaddress
import socket
from typing import Any, Final

from hyrex_broker.database_url import Probes

Address = tuple[Any, ...]
"""What a socket connects to: (host, port), and more for IPv6. The port is the one that asyncpg names."""
_OFTEN: Final = ("create_future", "call_later", "call_soon", "create_task", "time")


class DiallingLoop:
    """An event loop for the connections to one address."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address | None, probes: Probes) -> None:
        self._loop = loop
        self._address = address
        self._probes = probes
        # As attributes of this object they cost no more calls for each statement than the loop's own.
        for name in _OFTEN:
            setattr(self, name, getattr(loop, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, factory: Any, host: str, port: int, **options: Any) -> Any:
        """Connect to the address that was chosen; `host` is what its certificate must name."""
        if self._address is None:
            return await self._loop.create_connection(factory, host, port, **options)
        address = (self._address[0], port, *self._address[2:])
        made = socket.socket(_family(address[0]), socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            _set_probes(made, self._probes)
            await self._loop.sock_connect(made, address)
            if options.get("ssl"):
                options.setdefault("server_hostname", host)
            return await self._loop.create_connection(factory, sock=made, **options)
        except BaseException:
            made.close()
            raise


async def addresses(host: str) -> list[Address | None]:
    """All addresses of a host, in the system's order; None where asyncpg has to find the server (no host is
    named, or a socket's folder). Raises OSError."""
    if not host or host.startswith("/"):
        return [None]
    if _is_address(host):
        return [(host, 0)]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(each[4] for each in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _set_probes(made: socket.socket, probes: Probes) -> None:
    """As libpq does; an option that this system lacks is left out."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(probes.enabled))
    wanted = {"TCP_USER_TIMEOUT": probes.user_timeout_ms}
    if probes.enabled:
        idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
        wanted |= {idle: probes.idle_s, "TCP_KEEPINTVL": probes.interval_s, "TCP_KEEPCNT": probes.count}
    for name, value in wanted.items():
        if value and hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
