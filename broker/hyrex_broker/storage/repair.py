"""Puts right what `hyrex verify` finds, where that is safe: as the brokers' own sweeps do, each kind in a
transaction of its own that looks again under its locks.

Each repair holds the lock of migrations and retention, and no longer than it takes: a broker that starts
waits for that lock. Under it nobody removes a day and there is one repair at a time; what retention did
before is looked at again.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from hyrex_broker.domain.model import Outcome, RunEnd, SessionId, TaskId, Token
from hyrex_broker.storage import partitions
from hyrex_broker.storage.connect import Connector, Timeouts
from hyrex_broker.storage.migrate import admit_others, exclude_others
from hyrex_broker.storage.report import end_runs
from hyrex_broker.storage.settings import HOT_SETTINGS
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

_SQL: Final = load("repair")
_LANES: Final = load("lanes")
_TIMEOUTS: Final = Timeouts(connect_s=5, command_s=10)
_SETTINGS: Final = {**HOT_SETTINGS, "application_name": "hyrex-broker-repair"}
_NO_SESSION: Final = "its session was not there any more (hyrex verify --repair)"


@dataclass(frozen=True, slots=True)
class Repairs:
    """A connection that may write."""

    connection: Any

    @classmethod
    @asynccontextmanager
    async def on(cls, connector: Connector) -> AsyncIterator[Self]:
        """Repairs until the block ends. Raises StorageUnavailable."""
        connection = await connector.connect(_SETTINGS, _TIMEOUTS)
        try:
            yield cls(connection)
        finally:
            connection.terminate()

    async def repair(self, kind: str, ids: list[str], still: Callable[[], Awaitable[list[str]]]) -> int:
        """Put right what is still wrong of these; how many were. Nothing where it is not safe. `still`: which
        of them have a day that nobody has begun to remove, asked while nobody can begin."""
        way = _WAYS.get(kind)
        if way is None:
            return 0
        # After an error the connection is closed, which ends the lock.
        await exclude_others(self.connection)
        if left := sorted(await still()):
            async with self.connection.transaction():
                count = await way(self.connection, left)
        else:
            count = 0
        await admit_others(self.connection)
        log.info("repaired", extra={"kind": kind, "count": count})
        return count


def _by(name: str, *, locked: bool = False) -> Callable[[Any, list[str]], Awaitable[int]]:
    """Repair by one statement; `locked`: after one that locks, so that it sees what is true by then."""

    async def run(connection: Any, ids: list[str]) -> int:
        if locked:
            await connection.execute(_SQL["lock_live"], ids)
        return len(await connection.fetch(_SQL[name], ids))

    return run


async def _end_orphans(connection: Any, ids: list[str]) -> int:
    """End runs as the sweeper does; a report with the same token is then stale."""
    rows = await connection.fetch(_SQL["orphan_leases"], ids)
    ends = [
        RunEnd(TaskId(row[0]), Token(row[1]), SessionId(row[2]), Outcome.LOST, 0, reason=_NO_SESSION)
        for row in rows
    ]
    return len(await end_runs(connection, ends)) if ends else 0


async def _tell_lanes(connection: Any, _names: list[str]) -> int:
    await connection.execute(_LANES["lock_lanes"])
    return len(await connection.fetch(_SQL["limit_unheeded"]))


async def _make_days(connection: Any, names: list[str]) -> int:
    await partitions.ensure(connection)
    return len(names)


_WAYS: Final[Mapping[str, Callable[[Any, list[str]], Awaitable[int]]]] = {
    "stranded": _by("stranded"),
    "two_places": _by("two_places", locked=True),
    "live_after_end": _by("live_after_end", locked=True),
    "orphan_lease": _end_orphans,
    "key_of_nothing": _by("keys_of_nothing"),
    "reopened_nothing": _by("reopened_nothing"),
    "dismissed_nothing": _by("dismissed_nothing"),
    "passed_over": _by("passed_over"),
    "limit_unheeded": _tell_lanes,
    "seat_of_ended": _by("followed"),
    "stuck_blocked": _by("followed"),
    "stuck_node": _by("advanced"),
    "day_missing": _make_days,
}
