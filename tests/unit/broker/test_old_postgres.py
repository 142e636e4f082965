"""A Postgres that is too old is refused before anything is written to it.

No such server is to be had here, so this stands in for one; it answers one question and no other.
"""

import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange
from hyrex_broker.storage import migrate


class Fourteen:
    """A connection to Postgres 14.10 that can only say so."""

    async def fetchval(self, sql: str, *, timeout: float) -> str:
        assert sql == "show server_version_num"
        return "140010"


async def test_postgres_14_is_refused_with_what_to_do() -> None:
    with pytest.raises(SchemaOutOfRange, match=r"Postgres 14 is too old.*15 or newer.*HYREX_DATABASE_URL"):
        await migrate._migrate(Fourteen())
