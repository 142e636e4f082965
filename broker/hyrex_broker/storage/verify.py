"""Verifies a database: whether what must always be true of it is true, beside working brokers or without any.

A move of a task is one transaction, so in one snapshot a task has its end or one live row, whatever is in
flight. Each look is therefore one statement: bounded, with a snapshot of its own that it does not hold for
long, and without locks. What may be undone for a moment (an expired session) is only told where it has been
for long, and a broker was there to do it. Why: docs/adr/0014-verify.md.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg

from hyrex_broker.domain.errors import SchemaOutOfRange
from hyrex_broker.domain.ids import LAST, lowest_id
from hyrex_broker.storage import partitions, repair
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Connector, Timeouts
from hyrex_broker.storage.migrate import migrations
from hyrex_broker.storage.settings import READ_SETTINGS
from hyrex_broker.storage.sqlstates import translated
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.verify_kinds import KINDS

_SQL: Final = load("verify")
_EXAMINE: Final = load("examine")
_TIMEOUTS: Final = Timeouts(connect_s=5, command_s=10)
_SETTINGS: Final = {
    **READ_SETTINGS,
    "application_name": "hyrex-broker-verify",
    "default_transaction_read_only": "on",
    # Statistics of live tables say anything: only index probes keep a portion cheap.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""A connection that cannot write."""
_PORTION: Final = 2000
_LEAST_PORTION: Final = 20
IDS_TOLD: Final = 10
LONG: Final = timedelta(minutes=2)
"""What brokers do within seconds has not been done for so long: then it is told."""
_KEYS_KEPT: Final = timedelta(days=2)
_LATE_LOOKS: Final = (
    "unswept", "overdue", "not_promoted", "passed_over", "bulk_left", "slot_overdue", "over_limit",
    "over_rate", "limit_unheeded", "seat_of_ended", "stuck_blocked", "stuck_node", "over_key",
    "outbox_refused", "slot_lost",
)  # fmt: skip
_OF_WHOLE_DAYS: Final = ("stranded", "reopened_nothing", "dismissed_nothing")
_FIRST: Final = str(UUID(int=0))
_PARENTS: Final = (*(parent for parent, _ in partitions.PARENTS), *partitions.STATISTICS)
_DAYS_NEEDED: Final = range(-1, 3)
"""Brokers make them from two days ago to three days ahead, the last one up to half an hour after midnight."""


@dataclass(slots=True)
class Discrepancy:
    """Something that must not be. `ids`: the first ones; `repaired`: how many were put right."""

    kind: str
    count: int = 0
    ids: list[str] = field(default_factory=list)
    repaired: int = 0

    @property
    def meaning(self) -> str:
        """What it is, for people."""
        return KINDS[self.kind].meaning

    @property
    def remedy(self) -> str:
        """What to do."""
        return KINDS[self.kind].remedy


@dataclass(slots=True)
class Verified:
    """What was found, and how many tasks were looked at."""

    tasks: int = 0
    findings: dict[str, Discrepancy] = field(default_factory=dict)

    def note(self, kind: str, count: int, ids: list[str]) -> None:
        """Add to the findings of a kind."""
        finding = self.findings.setdefault(kind, Discrepancy(kind))
        finding.count += count
        finding.ids += ids[: IDS_TOLD - len(finding.ids)]


async def verify(
    database_url: str,
    schema: str = DEFAULT_SCHEMA,
    *,
    since: datetime | None = None,
    repairs: bool = False,
    long: timedelta = LONG,
) -> Verified:
    """Look at a whole database, or at tasks from `since` on; with `repairs`, put right what can be.

    Raises StorageUnavailable, or SchemaOutOfRange where there is no Hyrex of this version.
    """
    with translated():
        connector = Connector(database_url, schema)
        async with _connected(connector) as connection:
            await _require_schema(connection, schema)
            if not repairs:
                return await _Walk(connection, schema, long).all(since)
            async with repair.Repairs.on(connector) as putting_right:
                return await _Walk(connection, schema, long, putting_right).all(since)


@asynccontextmanager
async def _connected(connector: Connector) -> AsyncIterator[Any]:
    connection = await connector.connect(_SETTINGS, _TIMEOUTS)
    try:
        yield connection
    finally:
        connection.terminate()


async def _require_schema(connection: Any, schema: str) -> None:
    """Raise SchemaOutOfRange unless the schema is one that these statements know."""
    found = await connection.fetchrow(_EXAMINE["schema"], schema)
    newest = migrations()[-1].number
    if found["versions"] is None:
        raise SchemaOutOfRange(f"the database has no schema {schema} of Hyrex; name another with --schema")
    number = (await connection.fetchrow(_EXAMINE["state"]))["number"]
    if number != newest:
        raise SchemaOutOfRange(
            f"schema {schema} is at version {number}, and this Hyrex verifies version {newest};"
            " run the `hyrex verify` of the brokers' version"
        )


@dataclass(slots=True)
class _Walk:
    """One look at everything."""

    connection: Any
    schema: str
    long: timedelta
    repairs: "repair.Repairs | None" = None
    found: Verified = field(default_factory=Verified)

    async def all(self, since: datetime | None) -> Verified:
        """Look at tasks, then at the rest."""
        before = await self._days()
        await self._walk(_FIRST if since is None else lowest_id(since.timestamp()))
        for name in _LATE_LOOKS:
            ids = _PORTION if self.repairs else IDS_TOLD
            row = await self.connection.fetchrow(_SQL[name], self.long, ids)
            if row is not None:
                await self._note(row["kind"], row["count"], row["ids"])
        await self._look_at_days(before)
        return self.found

    async def _walk(self, after: str) -> None:
        """Go through all ids, a portion in each statement; smaller ones where one runs out of time."""
        portion = _PORTION
        keys_from = lowest_id((datetime.now(UTC) - _KEYS_KEPT).timestamp())
        while after != LAST:
            try:
                rows = await self.connection.fetch(
                    _SQL["walk"], after, LAST, portion, keys_from, portion * 2 if self.repairs else IDS_TOLD
                )
            except asyncpg.QueryCanceledError:
                if portion <= _LEAST_PORTION:
                    raise
                portion //= 4
                continue
            for row in rows:
                if row["kind"] is None:
                    self.found.tasks += row["count"]
                    after = row["ids"][0]
                else:
                    await self._note_tasks(row["kind"], row["count"], row["ids"])

    async def _note_tasks(self, kind: str, count: int, ids: list[str]) -> None:
        kept = await self._of_whole_days(kind, ids)
        if len(kept) < len(ids):
            count -= len(ids) - len(kept) if kept else count
            ids = kept
        if count:
            await self._note(kind, count, ids)

    async def _note(self, kind: str, count: int, ids: list[str]) -> None:
        self.found.note(kind, count, ids)
        if self.repairs is not None and ids:
            still = partial(self._still, kind, ids)
            self.found.findings[kind].repaired += await self.repairs.repair(kind, ids, still)

    async def _still(self, kind: str, ids: list[str]) -> list[str]:
        """What may be repaired, by a look while nobody migrates or removes days: both may have happened since
        it was found."""
        await _require_schema(self.connection, self.schema)
        return await self._of_whole_days(kind, ids)

    async def _of_whole_days(self, kind: str, ids: list[str]) -> list[str]:
        """A day that is removed loses its runs first, which explains findings of some kinds. No day comes
        back: what is whole now was whole then."""
        if kind not in _OF_WHOLE_DAYS:
            return ids
        days = await self._days()
        return [task_id for task_id in ids if _is_whole(days, task_id, kind)]

    async def _days(self) -> Mapping[str, Any]:
        return {row["name"]: row for row in await self.connection.fetch(_SQL["days"])}

    async def _look_at_days(self, before: Mapping[str, Any]) -> None:
        """Partitions that are missing, and tables that are there both before and after the walk and belong to
        nothing, while nobody maintains them."""
        now = await self.connection.fetchrow(_SQL["today"])
        days = await self._days()
        missing = [name for name in _needed(now["today"]) if name not in days or days[name]["parent"] is None]
        if missing:
            await self._note("day_missing", len(missing), missing)
        if now["maintained"]:
            return
        strange = [name for name, row in days.items() if name in before and _is_strange(row)]
        if strange:
            await self._note("day_unknown", len(strange), strange)


def _is_strange(row: Any) -> bool:
    return row["parent"] is None or row["detaching"] or not row["known"]


def _needed(today: date) -> list[str]:
    return [f"{p}_{today + timedelta(days=ahead):%Y%m%d}" for p in _PARENTS for ahead in _DAYS_NEEDED]


def _is_whole(days: Mapping[str, Any], task_id: str, kind: str) -> bool:
    """Return True if both tables of the id's day are there; for what is left of a day, if neither is."""
    day = partitions.day_of_id(task_id)
    tables = [days.get(f"{parent}_{day:%Y%m%d}") for parent, _ in partitions.PARENTS]
    whole = all(table is not None and table["parent"] and not table["detaching"] for table in tables)
    return whole or (kind == "reopened_nothing" and tables == [None, None])
