"""Entries of what was done with the rights `admin` and `payload`: inserted, read, and removed day by day."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("audit")
NEWEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that a caller does."""

    who: str
    action: str
    object: str
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AuditView:
    """A stored entry."""

    number: int
    at: datetime
    deed: Deed


class AuditStore:
    """Statements of `audit.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, deeds: Sequence[Deed]) -> None:
        """Store entries, all or none."""
        await self._database.execute(
            _SQL["record"],
            [deed.who for deed in deeds],
            [deed.action for deed in deeds],
            [deed.object for deed in deeds],
            [json.dumps(dict(deed.details)) for deed in deeds],
        )

    async def page(self, before: int, who: str | None, size: int) -> list[AuditView]:
        """Up to `size` entries with numbers below `before`, newest first."""
        rows = await self._database.fetch(_SQL["page"], before, who, size, read=True)
        return [_view(row) for row in rows]


def _view(row: Any) -> AuditView:
    deed = Deed(row["who"], row["action"], row["object"], json.loads(row["details"]))
    return AuditView(row["id"], row["at"], deed)
