"""Removes lanes, definitions, limits of code and queues that nobody has used for longer than tasks are kept.

Lanes need care: brokers hold their ids, and a task that is stored in a lane that is gone would be lost. So a
lane has a time until which tasks may be stored in it (`lane.usable_until`). Whoever interns it prolongs that
time, and every statement that stores tasks asks whether it is over. If it has been over for longer than any
task is kept, the lane has no tasks but those that live, or are kept with a living tree; these are looked for.
Nobody stores another one meanwhile without interning the lane again, and that excludes its removal.
Why: docs/adr/0026-unused-lanes.md.
"""

import logging
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.storage import partitions
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

PORTION: Final = 20_000
_AT_ONCE: Final = 1000
"""How many are removed under one lock: whoever interns lanes waits for it."""
_AHEAD: Final = timedelta(days=partitions.DAYS_AHEAD + 2)
"""A task's id may be so much later than the moment at which it was stored."""
_SQL: Final = load("unused")
_LANES: Final = load("lanes")


async def remove_unused(connection: Any, terms: RetentionTerms) -> None:
    """Remove what was not used since the longest term began. Call while other brokers are excluded."""
    oldest = await partitions.moment(connection) - max(terms.finished, terms.bad_ends)
    since = oldest - _AHEAD
    removed = await _remove_lanes(connection, since, oldest)
    for kind in ("definitions", "limits", "queues"):
        await _remove_named(connection, kind, since)
    if removed:
        log.info("lanes removed that were not used for long", extra={"lanes": removed})


async def _remove_named(connection: Any, kind: str, since: datetime) -> None:
    last = ""
    while names := [row["name"] for row in await connection.fetch(_SQL[kind], since, last, _AT_ONCE)]:
        last = names[-1]
        async with connection.transaction():
            await connection.execute(_LANES["lock_lanes"])
            await connection.execute(_SQL[f"remove_{kind}"], since, names)


async def _remove_lanes(connection: Any, since: datetime, oldest: datetime) -> int:
    stored: set[int] | None = None
    removed = last = 0
    while lanes := [row["id"] for row in await connection.fetch(_SQL["lanes"], since, last, _AT_ONCE)]:
        last = lanes[-1]
        if stored is None:
            stored = await _of_old_tasks(connection, oldest)
        async with connection.transaction():
            await connection.execute(_LANES["lock_lanes"])
            await connection.execute(_SQL["keep"], [lane for lane in lanes if lane in stored])
            removed += await connection.fetchval(_SQL["remove_lanes"], lanes, since)
    return removed


async def _of_old_tasks(connection: Any, oldest: datetime) -> set[int]:
    """The lanes of the tasks that are kept although their terms are over."""
    found: set[int] = set()
    before = partitions.lower_bound(oldest)
    after: UUID | None = UUID(int=0)
    while after is not None:
        row = await connection.fetchrow(_SQL["stored"], after, before, PORTION)
        found.update(row["lanes"])
        after = row["last"]
    return found
