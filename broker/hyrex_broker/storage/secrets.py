"""Secrets that all brokers of a database share."""

from typing import Final

from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("secrets")


class SecretStore:
    """Statements of `secrets.sql`. Raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_pages(self) -> bytes:
        """The secret of page tokens, made when the schema was."""
        return await self._secret("pages")

    async def of_keys(self) -> bytes:
        """The secret of the hashes of concurrency keys."""
        return await self._secret("keys")

    async def _secret(self, purpose: str) -> bytes:
        row = await self._database.fetchrow(_SQL["secret"], purpose, read=True)
        assert row is not None, "the first migration makes it"
        secret: bytes = row["secret"]
        return secret
