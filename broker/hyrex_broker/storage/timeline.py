"""Which timeline of Postgres a broker stands on. A promoted standby begins a new one (a higher number), and
may lack what the old primary had; the old primary stays on the old one, and nobody follows it any more.

So a server of an older timeline than this process has seen is refused. And what a broker keeps in memory
(lanes, marks, limits, sessions, its own row) belongs to the timeline on which it was read: where a newer one
is seen, all of that is over, and its connections are used no more (docs/adr/0012-one-timeline.md).
"""

import asyncio
import logging
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

_SQL: Final = load("replication")
_NOT_TOLD: Final = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
)
"""From services that hide their log, which have no second primary either."""


class NewestTimeline:
    """The newest timeline that this process has seen. Lives as long as the process."""

    def __init__(self) -> None:
        self.newest = 0
        self.is_over = asyncio.Event()
        """Set when what was read before holds no more; nothing can be stored until `begin_anew`."""

    async def check(self, connection: Any) -> None:
        """Raise StorageUnavailable unless a new connection is to a server of the present timeline."""
        number = await _number_of(connection)
        if number is None:
            return
        if number < self.newest:
            raise StorageUnavailable(
                f"this server is on timeline {number}, and timeline {self.newest} has been seen: it is a"
                " primary that was replaced; stop it, or make it a standby (pg_rewind)"
            )
        if number > self.newest:
            known, self.newest = self.newest, number
            if known:
                self.end(f"a new primary: timeline {number} after {known}")
        if self.is_over.is_set():
            raise StorageUnavailable("Postgres has a new primary; the broker reads everything anew")

    def end(self, why: str) -> None:
        """Note that what was read before holds no more."""
        if not self.is_over.is_set():
            log.warning("the broker begins anew", extra={"reason": why})
            self.is_over.set()

    def begin_anew(self) -> None:
        """From here on everything is read anew."""
        self.is_over.clear()


async def _number_of(connection: Any) -> int | None:
    """The timeline to which a server writes; None if it does not tell."""
    try:
        number = await connection.fetchval(_SQL["timeline"])
    except _NOT_TOLD as error:
        log.debug("the server does not tell its timeline", extra={"error": str(error)})
        return None
    return int(number)
