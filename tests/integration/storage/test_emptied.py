"""Databases that many tests share are emptied between them, of every table that there is."""

from typing import Any

from tests.integration.storage.conftest import EMPTY, FILLED_BY_THE_SCHEMA

TABLES = (
    "select relname from pg_class where relnamespace = 'hyrex'::regnamespace"
    " and relkind in ('r', 'p') and not relispartition"
)


async def test_every_table_is_emptied_or_filled_by_the_schema(connection: Any) -> None:
    found = [row["relname"] for row in await connection.fetch(TABLES)]
    assert sorted(found) == sorted([*EMPTY, *FILLED_BY_THE_SCHEMA])
