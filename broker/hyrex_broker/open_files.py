"""Open files: limits the connections of clients, so that a broker keeps some files for Postgres and itself.

Without a reserve, a few hundred silent sockets would take the last file. Then the next connection to Postgres
would fail, and the broker would report that the database is unreachable.
"""

import asyncio
import logging
import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

resource: Any = import_module("resource") if find_spec("resource") else None
"""The standard library's; Windows has none."""

log = logging.getLogger(__name__)

RESERVE: Final = 64
"""For connections to Postgres (two pools, heartbeats, LISTEN), gRPC's own files, and temporary ones."""
_ENOUGH: Final = 1 << 20
_FEWEST: Final = 16
_LOOK_EVERY_S: Final = 5.0
_NEARLY: Final = 0.9
_FOLDER: Final = "/proc/self/fd"


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one; it is low by default for programs with select()."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("the limit of open files stays as it is", extra={"limit": soft, "error": str(error)})


def most_connections() -> int:
    """How many connections of clients and workers a broker may have."""
    if resource is None:
        return _ENOUGH
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if soft == resource.RLIM_INFINITY else min(soft, _ENOUGH)
    return max(most - RESERVE, _FEWEST)


def _open_now() -> int | None:
    """How many files are open; None where the system does not say."""
    try:
        return len(os.listdir(_FOLDER))
    except OSError:
        return None


async def watch() -> None:
    """Log when nearly no more connections can be accepted, and when they can be again; until cancelled."""
    most, full = most_connections(), False
    while (count := _open_now()) is not None:
        if full != (count >= most * _NEARLY):
            full = not full
            if full:
                log.warning(
                    "nearly all connections that the limit of open files allows are taken; further ones are"
                    " closed at once. Raise it (ulimit -n, LimitNOFILE=), or look who opens so many",
                    extra={"open_files": count, "most_connections": most},
                )
            else:
                log.info("there is room for connections again", extra={"open_files": count})
        await asyncio.sleep(_LOOK_EVERY_S)
