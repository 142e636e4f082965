"""QueueService of a gateway: a queue is asked for in its cell."""

from typing import NoReturn

from hyrex.v1 import queue_service_pb2 as pb
from hyrex.v1 import queue_service_pb2_grpc
from hyrex_broker.domain.errors import SpansCells
from hyrex_broker.gateway.cell import passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.tasks import ONE_CELL
from hyrex_broker.service.receiving import Context

_GET, _UPDATE, _PURGE, _DELETE = (
    method("QueueService", f"{name}Queue") for name in ("Get", "Update", "Purge", "Delete")
)


class GatewayQueues(queue_service_pb2_grpc.QueueServiceServicer):
    """Queues of all cells."""

    def __init__(self, cells: GatewayCells) -> None:
        self._cells = cells

    async def GetQueue(self, request: pb.GetQueueRequest, context: Context) -> pb.GetQueueResponse:
        answer: pb.GetQueueResponse = await self._cells.of(request.name).ask(_GET, request, passed(context))
        return answer

    async def UpdateQueue(self, request: pb.UpdateQueueRequest, context: Context) -> pb.UpdateQueueResponse:
        cell = self._cells.of(request.name)
        answer: pb.UpdateQueueResponse = await cell.ask(_UPDATE, request, passed(context))
        return answer

    async def PurgeQueue(self, request: pb.PurgeQueueRequest, context: Context) -> pb.PurgeQueueResponse:
        cell = self._cells.of(request.name)
        answer: pb.PurgeQueueResponse = await cell.ask(_PURGE, request, passed(context))
        return answer

    async def DeleteQueue(self, request: pb.DeleteQueueRequest, context: Context) -> pb.DeleteQueueResponse:
        cell = self._cells.of(request.name)
        answer: pb.DeleteQueueResponse = await cell.ask(_DELETE, request, passed(context))
        return answer

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Context) -> NoReturn:
        raise SpansCells("lists of queues are", ONE_CELL)
