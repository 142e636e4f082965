"""Schedules that code declares and that a broker of an earlier version would break: they are stored when that
one has gone. Their workers are served meanwhile, and declare nothing again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.features import Feature, FeatureGate
from hyrex_broker.domain.schedules import ScheduleDefinition
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

Covers = Callable[[str], bool]
"""Tells the queues in which a caller may change schedules."""
Declares = Callable[[Sequence[ScheduleDefinition], Covers | None], Awaitable[object]]
LOOK_EVERY_S: Final = 1.0


class DeclaredLater:
    """The last that was declared under each name, and by whom."""

    def __init__(self) -> None:
        self.gate = FeatureGate()
        self._waiting: dict[str, tuple[ScheduleDefinition, Covers | None]] = {}

    async def without(
        self, definitions: Sequence[ScheduleDefinition], covers: Covers | None
    ) -> Sequence[ScheduleDefinition]:
        """Those that may be stored now; the others wait here. Raises StorageUnavailable."""
        expiring = {each.name: each for each in definitions if each.options.expires_in_ms is not None}
        error = await self.gate.use([Feature.EXPIRY]) if expiring else None
        if error is None:
            return definitions
        log.warning(
            "schedules of a worker's code wait for an older broker to go",
            extra={"schedules": sorted(expiring)[:20], "error": error.message},
        )
        self._waiting |= {name: (each, covers) for name, each in expiring.items()}
        return [each for each in definitions if each.name not in expiring]

    async def run(self, declare: Declares) -> None:
        """Store them when they may be, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._waiting or self.gate.refusal([Feature.EXPIRY]) is not None:
                continue
            waiting, self._waiting = self._waiting, {}
            for name, (definition, covers) in waiting.items():
                try:
                    await declare([definition], covers)
                except (StorageUnavailable, StatementRefused) as error:
                    log.debug("a declared schedule waits", extra={"schedule": name, "error": str(error)})
                    self._waiting.setdefault(name, (definition, covers))
