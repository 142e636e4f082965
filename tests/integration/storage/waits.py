"""Waiting for what another connection does, by looking and not by sleeping for luck."""

import asyncio
from typing import Any

_PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.005


async def until_blocked(connection: Any, count: int = 1) -> None:
    """Wait until so many statements wait for locks in this database."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            # Two snapshots of pg_stat_activity in one transaction are the same one.
            await connection.execute("select pg_stat_clear_snapshot()")
            waiting = await connection.fetchval(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            if waiting >= count:
                return
            await asyncio.sleep(_LOOK_EVERY_S)
