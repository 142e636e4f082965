"""Open files: a broker takes as many connections as it can have, and keeps some for Postgres and itself.

Without a reserve a few hundred silent sockets take the last file, and what fails then is the next connection
to Postgres: the broker would say that the database is away.
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
"""For connections to Postgres (two pools, proofs of life, LISTEN), gRPC's own, and files of a moment."""
_ENOUGH: Final = 1 << 20
_FEWEST: Final = 16
_LOOK_EVERY_S: Final = 5.0
_NEARLY: Final = 0.9
_FOLDER: Final = "/proc/self/fd"


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one: the soft one is low for the sake of select()."""
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
    """Say when hardly a connection more can be taken, and when there is room again; until cancelled."""
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
