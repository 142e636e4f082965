"""What the database of a bench has stored, read by tests."""

import asyncio
from typing import Any

from tests.integration.engine.bench import Bench


async def rows(bench: Bench, sql: str, *args: object) -> list[Any]:
    return [tuple(row) for row in await bench.database.fetch(sql, *args)]


async def until_rows(bench: Bench, sql: str, expected: list[Any]) -> None:
    """Wait until a query finds these. Raises TimeoutError after a minute."""
    async with asyncio.timeout(60):
        while await rows(bench, sql) != expected:
            await asyncio.sleep(0.01)
