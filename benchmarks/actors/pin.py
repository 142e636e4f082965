"""Holds a transaction open from the start, as a forgotten session would; argument: URL."""

import asyncio
import sys
from typing import Any

import asyncpg

from benchmarks.actors.orders import obey_async


async def main() -> None:
    """Hold until the orders end."""
    connection = await asyncpg.connect(sys.argv[1])
    await connection.execute("begin isolation level repeatable read")
    await connection.fetchval("select count(*) from lane")

    async def nothing() -> dict[str, Any]:
        return {}

    await obey_async(nothing)


if __name__ == "__main__":
    asyncio.run(main())
