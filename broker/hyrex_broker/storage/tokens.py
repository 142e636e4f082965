"""The tokens of the cluster. Of each only a hash is stored."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("tokens")
_SCOPES: Final = {scope.value: scope for scope in Scope}


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token for people."""

    number: int
    name: str
    ending: str
    scopes: tuple[Scope, ...]
    queue_patterns: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be stored."""

    name: str
    hash: bytes
    ending: str
    scopes: Sequence[Scope]
    queue_patterns: Sequence[str]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What a broker knows of a token. `ends_at`: by the monotonic clock of this process."""

    hash: bytes
    caller: Caller
    revoked: bool
    ends_at: float | None

    def is_good(self, now: float) -> bool:
        """Return True if it is neither revoked nor expired."""
        return not self.revoked and (self.ends_at is None or now < self.ends_at)


class TokenStore:
    """Statements of `tokens.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[StoredToken]:
        """Every token."""
        return _stored(await self._database.fetch(_SQL["all"], read=True))

    async def changed(self, within_s: float) -> list[StoredToken]:
        """Tokens that were made or revoked so lately."""
        return _stored(await self._database.fetch(_SQL["changed"], within_s, read=True))

    async def create(self, token: NewToken) -> TokenView | None:
        """Store a token; None if one that has not ended has its name."""
        async with self._database.transaction() as transaction:
            await transaction.execute(_SQL["give_up_name"], token.name)
            row = await transaction.fetchrow(
                _SQL["create"],
                token.name,
                token.hash,
                token.ending,
                list(token.scopes),
                list(token.queue_patterns),
                token.expires_at,
            )
        return None if row is None else _view(row)

    async def find(self, name: str) -> TokenView | None:
        """The token of this name that is not revoked."""
        row = await self._database.fetchrow(_SQL["find"], name, read=True)
        return None if row is None else _view(row)

    async def page(self, after: tuple[str, int], size: int, *, ended: bool) -> list[TokenView]:
        """Up to `size` tokens after this (name, number), by name; ended ones if wanted."""
        rows = await self._database.fetch(_SQL["page"], *after, size, ended, read=True)
        return [_view(row) for row in rows]

    async def revoke(self, number: int) -> TokenView | None:
        """Revoke a token; None if it is revoked already."""
        row = await self._database.fetchrow(_SQL["revoke"], number)
        return None if row is None else _view(row)


def _stored(rows: Iterable[Any]) -> list[StoredToken]:
    now = time.monotonic()
    return [
        StoredToken(
            row["hash"],
            Caller(row["name"], frozenset(_scopes(row)), tuple(row["queue_patterns"]), row["hash"]),
            row["revoked"],
            None if row["lasts_s"] is None else now + row["lasts_s"],
        )
        for row in rows
    ]


def _scopes(row: Any) -> tuple[Scope, ...]:
    """The scopes that this version knows."""
    return tuple(_SCOPES[name] for name in row["scopes"] if name in _SCOPES)


def _view(row: Any) -> TokenView:
    return TokenView(
        number=row["id"],
        name=row["name"],
        ending=row["ending"],
        scopes=_scopes(row),
        queue_patterns=tuple(row["queue_patterns"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
