"""Presence: shows other brokers that this one runs, and finds out which others do, and whether the database
answers and accepts writes."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.features import FeatureGate
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.engine.cluster.notifications import Notifications
from hyrex_broker.engine.cluster.replicated import Renewals
from hyrex_broker.storage.brokers import BrokerStore, Others
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
_AGAIN_S: Final = 0.25
"""After a round without an answer. The connector has a pause of its own while nothing can be connected to."""
_SILENT_S: Final = 0.5
"""Without an answer for so long, all servers are asked, again and again: a machine that lost its power says
nothing, an old primary that nobody follows any more waits for a standby, and another may be promoted."""


class Presence:
    """One row, renewed every second."""

    def __init__(
        self, store: BrokerStore, broker: BrokerId, notifications: Notifications, watching: Callable[[], bool]
    ) -> None:
        self._store = store
        self._broker = broker
        self._notifications = notifications
        self._watching = watching
        self._availability = store.availability
        self.renewals = Renewals()
        self.gate = FeatureGate()
        self.gate.mark = partial(store.use_features, broker)
        self.on_round: Callable[[bool], None] = lambda answered: None
        """Told after each round whether the database answered."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called while this broker's own row is not there: the database was put back to an earlier state."""

        self.on_fewer: Callable[[], None] = lambda: None
        """Called when fewer other brokers are seen than before."""
        self._others = 0

        self.carries = False
        """This broker takes the rows of an outbox in another database."""
        self.carrying: Sequence[str] = ()
        """The others that do, if this one does not: a task that is not found here may wait there. They stay
        known when they stop, since the task waits still."""

        self.on_unknown: Callable[[Sequence[str]], None] = lambda features: None
        """Called while features are used in this database that this broker lacks."""

        self.on_unserved: Callable[[int, int], None] = lambda serves_from, knows: None
        """Called with the schema that a broker must know and the newest that this one knows, while the
        database does not serve this one any more."""

    async def look_for_older(self) -> None:
        """Find out, before anything is served, which features cannot be used. Raises StorageUnavailable."""
        self.gate.learn((await self._store.seen(self._broker, watching=False)).older)

    async def run(self) -> None:
        """Renew until cancelled; then leave."""
        try:
            while True:
                await self._renew()
                await asyncio.sleep(_INTERVAL_S if self._availability.away is None else _AGAIN_S)
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def _renew(self) -> None:
        try:
            acknowledged = self._store.counters.acknowledged()
            others = await self._seen()
        except (StorageUnavailable, StatementRefused) as error:
            if self._availability.unanswered(str(error)):
                # Statements in flight have their own timeouts; the next ones get new connections.
                await self._store.replace_connections()
            self.on_round(False)
            return
        if others.seen_at is not None:
            self.renewals.add(others.seen_at, acknowledged)
        self.gate.learn(others.older)
        if others.count < self._others:
            self.on_fewer()
        self._others = others.count
        self._learn_who_carries(others.carrying)
        self._notifications.others = others.count > 0
        self._notifications.others_watch = others.watching
        self._availability.answered()
        self._availability.replicates(synchronous=others.synchronous)
        self.on_round(True)
        if not others.sees_us:
            self.on_lost()
        elif others.knows < others.serves_from:
            self.on_unserved(others.serves_from, others.knows)
        elif others.unknown:
            self.on_unknown(others.unknown)
        if self._availability.is_due_for_trial:
            await self._try()

    def _learn_who_carries(self, names: Sequence[str]) -> None:
        if not names or self.carries:
            return
        if not self.carrying:
            log.warning(
                "other brokers take the outbox of another database, where this one cannot look for tasks:"
                " give it the same --outbox-url",
                extra={"brokers": names},
            )
        self.carrying = names

    async def _seen(self) -> Others:
        look = asyncio.ensure_future(self._look_while_silent())
        try:
            return await self._store.seen(self._broker, watching=self._watching())
        finally:
            look.cancel()

    async def _look_while_silent(self) -> None:
        while True:
            await asyncio.sleep(_SILENT_S)
            with suppress(TimeoutError):  # a silent one keeps nobody from asking the others again
                async with asyncio.timeout(_SILENT_S):
                    await self._store.look()

    async def _try(self) -> None:
        """Return True if the database still refuses what it refused."""
        try:
            await self._store.trial()
        except (StorageUnavailable, StatementRefused) as error:
            log.debug("the database still refuses statements", extra={"error": str(error)})
        else:
            self._availability.accepted()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self._store.unregister(self._broker)
        except (StorageUnavailable, TimeoutError):
            log.debug("broker row not removed at shutdown")
