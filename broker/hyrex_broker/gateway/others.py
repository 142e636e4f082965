"""What a gateway refuses in words: workers, and what operators ask of one cell."""

from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import worker_service_pb2_grpc
from hyrex_broker.domain.errors import SpansCells
from hyrex_broker.gateway.cell import passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.search import find
from hyrex_broker.gateway.tasks import ONE_CELL
from hyrex_broker.service.receiving import Context

_GET_CALLER: Final = method("AdminService", "GetCaller")
_BROKERS: Final = (
    "a worker serves one cell, so start it with the URL of that cell's brokers (HYREX_BROKER_URL)"
)


class GatewayWorkers(worker_service_pb2_grpc.WorkerServiceServicer):
    """Workers are told to connect to their cell."""

    async def Work(  # type: ignore[override]
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> None:
        raise SpansCells("workers are", _BROKERS)

    async def EndSession(self, request: Any, context: Context) -> NoReturn:
        raise SpansCells("workers are", _BROKERS)


class GatewayAdmin:
    """Who calls is answered by a cell; all else is of one cell."""

    def __init__(self, cells: GatewayCells) -> None:
        self._cells = cells

    async def GetCaller(self, request: admin.GetCallerRequest, context: Context) -> admin.GetCallerResponse:
        answer: admin.GetCallerResponse = await find(self._cells.all, _GET_CALLER, request, passed(context))
        return answer


async def _refused(self: GatewayAdmin, request: Any, context: Context) -> NoReturn:
    raise SpansCells("this call is", ONE_CELL)


for _each in admin.DESCRIPTOR.services_by_name["AdminService"].methods:
    if _each.name != "GetCaller":
        setattr(GatewayAdmin, _each.name, _refused)
