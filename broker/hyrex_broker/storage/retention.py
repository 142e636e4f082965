"""Upkeep of partitions and of ended sessions, on a connection of its own."""

from datetime import timedelta
from typing import Any

import asyncpg

from hyrex_broker.storage import partitions
from hyrex_broker.storage.migrate import LOCK_KEY
from hyrex_broker.storage.pool import translated


class RetentionStore:
    """Makes and drops partitions; only one broker at a time does."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def maintain(self, keep: timedelta) -> None:
        """Make the partitions around today; drop days past `keep` that hold nothing alive."""
        with translated():
            connection = await asyncpg.connect(self._url, timeout=5, command_timeout=60)
            try:
                if await connection.fetchval("select pg_try_advisory_lock($1::bigint)", LOCK_KEY):
                    await self._maintain(connection, keep)
            finally:
                await connection.close()

    async def _maintain(self, connection: Any, keep: timedelta) -> None:
        try:
            await partitions.ensure(connection)
            for day in await partitions.expired(connection, keep):
                await partitions.drop(connection, day)
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
