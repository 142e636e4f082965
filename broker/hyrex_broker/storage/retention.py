"""Upkeep of partitions and of ended sessions, on a connection of its own."""

from datetime import timedelta
from typing import Any, Final

import asyncpg

from hyrex_broker.storage import partitions
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Timeouts, connect
from hyrex_broker.storage.settings import UPKEEP_SETTINGS
from hyrex_broker.storage.sqlstates import translated
from hyrex_broker.storage.statements import load

_SQL: Final = load("schema")
_TIMEOUTS: Final = Timeouts(connect_s=5, command_s=60)


class RetentionStore:
    """Makes and drops partitions; only one broker at a time does."""

    def __init__(self, url: str, schema: str = DEFAULT_SCHEMA) -> None:
        self._url = url
        self._schema = schema

    async def maintain(self, keep: timedelta) -> None:
        """Make the partitions around today; drop days past `keep` that hold nothing alive."""
        with translated():
            connection = await connect(self._url, self._schema, UPKEEP_SETTINGS, _TIMEOUTS)
            try:
                if await connection.fetchval(_SQL["try_to_exclude_others"]):
                    await self._maintain(connection, keep)
            finally:
                await connection.close()

    async def _maintain(self, connection: Any, keep: timedelta) -> None:
        try:
            await partitions.ensure(connection)
            for day in await partitions.expired(connection, keep):
                await partitions.drop(connection, day)
            await partitions.drop_statistics(connection)
        except asyncpg.LockNotAvailableError:
            # Work goes first; the next round tries again.
            return
        await connection.execute(
            "delete from worker_session where ended_at < now() - $1::interval"
            " and not exists (select from lease where session_id = worker_session.id)",
            keep + timedelta(days=2),
        )
        await connection.execute(
            "delete from broker where seen_at < now() - $1::interval"
            " and not exists (select from worker_session where owner = broker.id)",
            keep,
        )
