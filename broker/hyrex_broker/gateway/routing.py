"""All cells of a gateway, and which of them a queue belongs to."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from hyrex.cells import CellRoutes
from hyrex_broker.gateway.cell import GatewayCell
from hyrex_broker.service.fields import NAME_BYTES
from hyrex_broker.service.inflight import BROKER_BYTES, MIB

_LEAST_SHARE: Final = 16 * MIB
_KNOWN_QUEUES: Final = 10_000


class GatewayCells:
    """Made on the loop that uses it."""

    def __init__(self, routes: CellRoutes) -> None:
        share = max(_LEAST_SHARE, BROKER_BYTES // (len(routes.cells) + 1))
        self.all: Sequence[GatewayCell] = [GatewayCell(each, share) for each in routes.cells]
        self._place_of = lru_cache(_KNOWN_QUEUES)(routes.place_of)

    def of(self, queue: str) -> GatewayCell:
        """The cell of a queue. Of what is too long for one, which any cell refuses, nothing is remembered."""
        return self.all[self._place_of(queue) if len(queue) <= NAME_BYTES else -1]
