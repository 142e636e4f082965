"""Upkeep of partitions and of ended sessions, on a connection of its own."""

import logging
from datetime import timedelta
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.storage import partitions
from hyrex_broker.storage.compaction import Compactor
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Connector, Timeouts, connector_of
from hyrex_broker.storage.settings import UPKEEP_SETTINGS
from hyrex_broker.storage.sqlstates import translated
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.unused import remove_unused

log = logging.getLogger(__name__)

_SQL: Final = load("schema")
_TOKENS: Final = load("tokens")
_AUDIT: Final = load("audit")
_KEEP_TOKENS: Final = timedelta(days=30)
_KEEP_AUDIT: Final = timedelta(days=90)
"""At least; who keeps tasks longer keeps both as long."""
_AT_A_TIME: Final = 10_000
_BULK: Final = load("bulk")
_SCHEDULES: Final = load("schedules")
_LANES: Final = load("lanes")
_TIMEOUTS: Final = Timeouts(connect_s=5, command_s=60)


class RetentionStore:
    """Makes and drops partitions; only one broker at a time does."""

    def __init__(self, url: str | Connector, schema: str = DEFAULT_SCHEMA) -> None:
        self._connector = connector_of(url, schema)

    async def maintain(self, keep: timedelta, bad_ends: timedelta = timedelta(0)) -> None:
        """Make the partitions around today; remove what is past `keep`, but what lives, and for `bad_ends`
        what did not end well."""
        with translated():
            connection = await self._connector.connect(UPKEEP_SETTINGS, _TIMEOUTS)
            try:
                if await connection.fetchval(_SQL["try_to_exclude_others"]):
                    await self._maintain(connection, RetentionTerms(keep, max(keep, bad_ends)))
            finally:
                await connection.close()

    async def _maintain(self, connection: Any, terms: RetentionTerms) -> None:
        keep = terms.finished
        try:
            await partitions.ensure(connection)
            await Compactor(connection, terms).maintain()
            await partitions.drop_statistics(connection)
        except asyncpg.LockNotAvailableError:
            # Work goes first; the next round tries again. What follows needs none of these tables.
            log.info("days are left to the next round: their tables are in use")
        else:
            await remove_unused(connection, terms)
        await connection.execute(
            "delete from worker_session where ended_at < now() - $1::interval"
            " and not exists (select from lease where session_id = worker_session.id)",
            terms.bad_ends + timedelta(days=2),
        )
        await connection.execute(_TOKENS["forget"], max(keep, _KEEP_TOKENS))
        while await connection.fetchval(_AUDIT["forget"], max(keep, _KEEP_AUDIT), _AT_A_TIME) == _AT_A_TIME:
            pass
        await connection.execute(_BULK["forget"], keep)
        await connection.execute(_LANES["forget_rate_uses"])
        while await connection.fetchval(_SCHEDULES["forget"], keep, _AT_A_TIME) == _AT_A_TIME:
            pass
        await connection.execute(_SCHEDULES["forget_names"], keep)
        await connection.execute(
            "delete from broker where seen_at < now() - $1::interval"
            " and not exists (select from worker_session where owner = broker.id)",
            keep,
        )
