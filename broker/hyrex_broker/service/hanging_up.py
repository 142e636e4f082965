"""Closes the connection of a caller who costs others too much.

gRPC has no call for it, so its socket is shut down: gRPC finds the peer gone, and lets go of every call of
that connection and of all it kept for them.
"""

import logging
import os
import socket
import stat
import time
from collections import Counter
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

log = logging.getLogger(__name__)

MOST_TAKEN_BACK_A_SECOND: Final = 100
"""Of one connection, without the token. Whoever has a wrong one waits for an answer that comes at once."""
_DESCRIPTORS: Final = "/dev/fd"
_MAPPED: Final = "::ffff:"
"""How IPv4 looks to a socket for both families; gRPC calls it ipv4."""
_TOLD_EVERY_S: Final = 60.0


class TakenBack:
    """Calls without the token whose callers had taken them back before they were refused: HTTP/2 sets no
    bound to their number, and each costs a moment in which nobody else is served."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()
        self._since = 0.0

    def count(self, peer: str) -> None:
        """One more of this connection, which is closed if these are too many."""
        now = time.monotonic()
        if now - self._since > 1:
            self._of.clear()
            self._since = now
        self._of[peer] += 1
        if self._of[peer] == MOST_TAKEN_BACK_A_SECOND:
            hang_up(peer, f"{MOST_TAKEN_BACK_A_SECOND} calls without the token, taken back within a second")


class _SparseWarning:
    """When it was said last: whoever connects again and again fills no log."""

    def __init__(self) -> None:
        self._again_at = float("-inf")
        self._untold = 0

    def tell(self, peer: str, why: str) -> None:
        now = time.monotonic()
        self._untold += 1
        if now >= self._again_at:
            log.warning("closed a connection", extra={"peer": peer, "why": why, "connections": self._untold})
            self._again_at, self._untold = now + _TOLD_EVERY_S, 0


_told: Final = _SparseWarning()


def hang_up(peer: str, why: str) -> bool:
    """Close a connection by its peer's name ("ipv4:127.0.0.1:1234"). False: there is none of that name."""
    address = _address(peer)
    numbers = [] if address is None else os.listdir(_DESCRIPTORS)
    for number in map(int, numbers):
        # What was listed may be closed by now, or be another file: so it is looked at as a copy.
        with suppress(OSError), _copied(number) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            host, port, *_ = connection.getpeername()
            if (host.removeprefix(_MAPPED), port) == address:
                connection.shutdown(socket.SHUT_RDWR)
                _told.tell(peer, why)
                return True
    return False


def _copied(number: int) -> socket.socket:
    """A socket of this process under another number. Raises OSError if it is none."""
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise OSError("it is no socket")
    copy = os.dup(number)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _address(peer: str) -> tuple[str, int] | None:
    """Host and port; None for a peer that has none."""
    family, _, rest = peer.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if family not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]"), int(port)
