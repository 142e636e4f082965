"""What a gateway shows to Prometheus, made at each scrape."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from hyrex.runtime.metric_families import counter, gauge
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.service.errors import refused

_CELL: Final = ("cell",)


class GatewayMetrics:
    """Reads the cells in the thread of a scrape."""

    def __init__(self, name: str, version: str, cells: GatewayCells) -> None:
        self._name = name
        self._version = version
        self._cells = cells

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        cells = self._cells.all
        yield gauge(
            "hyrex_gateway_info", "The gateway, by its labels.", ("name", "version"),
            [((self._name, self._version), 1)],
        )  # fmt: skip
        yield gauge(
            "hyrex_gateway_cell_up", "1 while a cell is connected and answers.", _CELL,
            [((each.name,), each.is_up) for each in cells],
        )  # fmt: skip
        yield counter(
            "hyrex_gateway_calls", "Calls and frames that went to a cell.", _CELL,
            [((each.name,), each.calls) for each in cells],
        )  # fmt: skip
        yield counter(
            "hyrex_gateway_away", "Calls and frames that found a cell away.", _CELL,
            [((each.name,), each.failures) for each in cells],
        )  # fmt: skip
        yield gauge(
            "hyrex_gateway_cell_bytes", "Bytes of submitted tasks on their way to a cell.", _CELL,
            [((each.name,), each.room.taken) for each in cells],
        )  # fmt: skip
        yield counter(
            "hyrex_refusals", "Calls and items refused.", ("reason",),
            [((reason,), count) for reason, count in dict(refused).items()],
        )  # fmt: skip
