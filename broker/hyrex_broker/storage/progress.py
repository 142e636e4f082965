"""How far runs are, by their own word."""

from collections.abc import Sequence
from typing import Final

from hyrex_broker.domain.progress import Told
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("progress")
TIDIED_AT_ONCE: Final = 10_000


class ProgressStore:
    """Statements of `progress.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, told: Sequence[Told]) -> None:
        """Store the newest word of some runs, each named once."""
        ordered = sorted(told, key=lambda each: each.task_id)
        await self._database.execute(
            _SQL["tell"],
            [each.task_id for each in ordered],
            [each.token for each in ordered],
            [each.done for each in ordered],
            [each.total for each in ordered],
            [each.text for each in ordered],
        )

    async def tidy(self) -> None:
        """Remove what was said by runs that have ended."""
        await self._database.execute(_SQL["tidy"], TIDIED_AT_ONCE)
