"""Schedules that code declares and that a broker of an earlier version would break: they are stored when that
one has gone. Their workers are served meanwhile, and declare nothing again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.features import Feature, FeatureGate, needed_by_schedule
from hyrex_broker.domain.schedules import ScheduleDefinition
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

Covers = Callable[[str], bool]
"""Tells the queues in which a caller may change schedules."""
Declares = Callable[[Sequence[ScheduleDefinition], Covers | None], Awaitable[object]]
LOOK_EVERY_S: Final = 1.0


def _needed_by(definitions: Iterable[ScheduleDefinition]) -> list[Feature]:
    return sorted({feature for each in definitions for feature in needed_by_schedule(each.options)})


class DeclaredLater:
    """The last that was declared under each name, and by whom."""

    def __init__(self) -> None:
        self.gate = FeatureGate()
        self._waiting: dict[str, tuple[ScheduleDefinition, Covers | None]] = {}

    async def without(
        self, definitions: Sequence[ScheduleDefinition], covers: Covers | None
    ) -> Sequence[ScheduleDefinition]:
        """Those that may be stored now; the others wait here. Raises StorageUnavailable."""
        needy = {each.name: each for each in definitions if [*needed_by_schedule(each.options)]}
        error = await self.gate.use(_needed_by(needy.values())) if needy else None
        if error is None:
            return definitions
        log.warning(
            "schedules of a worker's code wait for an older broker to go",
            extra={"schedules": sorted(needy)[:20], "error": error.message},
        )
        self._waiting |= {name: (each, covers) for name, each in needy.items()}
        return [each for each in definitions if each.name not in needy]

    async def run(self, declare: Declares) -> None:
        """Store them when they may be, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            needed = _needed_by(definition for definition, _ in self._waiting.values())
            if not self._waiting or self.gate.refusal(needed) is not None:
                continue
            waiting, self._waiting = self._waiting, {}
            for name, (definition, covers) in waiting.items():
                try:
                    await declare([definition], covers)
                except (StorageUnavailable, StatementRefused) as error:
                    log.debug("a declared schedule waits", extra={"schedule": name, "error": str(error)})
                    self._waiting.setdefault(name, (definition, covers))
