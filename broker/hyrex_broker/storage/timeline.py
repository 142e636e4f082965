"""Which timeline of Postgres a broker stands on. A promoted standby begins a new one (a higher number), and
may lack what the old primary had; the old primary stays on the old one, and nobody follows it any more.

So a server of an older timeline than this process has seen of its cluster is refused. And what a broker keeps
in memory (lanes, marks, limits, sessions, its own row) belongs to the timeline on which it was read: where a
newer one is seen, all of that is over, and its connections are used no more
(docs/adr/0012-one-timeline.md).
"""

import asyncio
import logging
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

_SQL: Final = load("replication")
_UNANSWERED: Final = ("08", "40", "53", "57", "58")
"""Classes of SQLSTATE by which a server says that it cannot answer just now. By any other it refuses to tell:
services that hide their log do so in many ways, and have no second primary either."""


def refuses_to_tell(error: BaseException | None) -> bool:
    """Return True if a server answered that it does not tell this, now or later."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate)[:2] not in _UNANSWERED


class NewestTimeline:
    """The newest timeline that this process has seen of a cluster. Lives as long as the process."""

    def __init__(self) -> None:
        self.newest = 0
        self.cluster: int | None = None
        """Postgres' system identifier: made by initdb, and so by an upgrade and a restored dump."""
        self.is_over = asyncio.Event()
        """Set when what was read before holds no more; nothing can be stored until `begin_anew`."""
        self._untold: set[str] = set()

    async def check(self, connection: Any) -> None:
        """Raise StorageUnavailable unless a new connection is to a server of the present timeline."""
        cluster = await self._told(connection, "cluster")
        number = await self._told(connection, "timeline")
        self._note_cluster(cluster)
        if number is not None:
            self._note_number(number)
        if self.is_over.is_set():
            raise StorageUnavailable("Postgres has a new primary; the broker reads everything anew")

    def _note_cluster(self, cluster: int | None) -> None:
        """Timelines of another cluster are numbered anew."""
        if cluster is None or cluster == self.cluster:
            return
        known, self.cluster = self.cluster, cluster
        if known is not None:
            self.newest = 0
            self.end(f"another cluster: its system identifier is {cluster}, after {known}")

    def _note_number(self, number: int) -> None:
        if number < self.newest:
            raise StorageUnavailable(
                f"this server is on timeline {number}, and timeline {self.newest} has been seen: it is a"
                " primary that was replaced; stop it, or make it a standby (pg_rewind); if this server was"
                " restored, restart the broker"
            )
        if number > self.newest:
            known, self.newest = self.newest, number
            if known:
                self.end(f"a new primary: timeline {number} after {known}")

    def end(self, why: str) -> None:
        """Note that what was read before holds no more."""
        if not self.is_over.is_set():
            log.warning("the broker begins anew", extra={"reason": why})
            self.is_over.set()

    def begin_anew(self) -> None:
        """From here on everything is read anew."""
        self.is_over.clear()

    async def _told(self, connection: Any, name: str) -> int | None:
        """What a statement tells; None if this server refuses to."""
        try:
            return int(await connection.fetchval(_SQL[name]))
        except asyncpg.PostgresError as error:
            if not refuses_to_tell(error):
                raise
            if name not in self._untold:
                self._untold.add(name)
                log.info("the server does not tell its %s", name, extra={"error": str(error)})
            return None
