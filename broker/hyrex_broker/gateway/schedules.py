"""ScheduleService of a gateway: a schedule is in the cell of its task's queue, and found by its name."""

from typing import Any, NoReturn

from hyrex.v1 import schedule_service_pb2 as pb
from hyrex.v1 import schedule_service_pb2_grpc
from hyrex_broker.domain.errors import BrokerError, SpansCells
from hyrex_broker.gateway.cell import passed
from hyrex_broker.gateway.methods import Method, method
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.search import ask_each, is_absent, none_has_it
from hyrex_broker.gateway.tasks import ONE_CELL
from hyrex_broker.service.receiving import Context

_PUT, _GET, _PAUSE, _TRIGGER, _BACKFILL, _DELETE = (
    method("ScheduleService", f"{name}Schedule")
    for name in ("Put", "Get", "Pause", "Trigger", "Backfill", "Delete")
)


class GatewaySchedules(schedule_service_pb2_grpc.ScheduleServiceServicer):
    """Schedules of all cells."""

    def __init__(self, cells: GatewayCells) -> None:
        self._cells = cells

    async def PutSchedule(self, request: pb.PutScheduleRequest, context: Context) -> pb.PutScheduleResponse:
        cell = self._cells.of(request.definition.task.queue)
        answer: pb.PutScheduleResponse = await cell.ask(_PUT, request, passed(context))
        return answer

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        answer: pb.GetScheduleResponse = await self._in_its_cell(_GET, request, context)
        return answer

    async def PauseSchedule(
        self, request: pb.PauseScheduleRequest, context: Context
    ) -> pb.PauseScheduleResponse:
        answer: pb.PauseScheduleResponse = await self._in_its_cell(_PAUSE, request, context)
        return answer

    async def TriggerSchedule(
        self, request: pb.TriggerScheduleRequest, context: Context
    ) -> pb.TriggerScheduleResponse:
        answer: pb.TriggerScheduleResponse = await self._in_its_cell(_TRIGGER, request, context)
        return answer

    async def BackfillSchedule(
        self, request: pb.BackfillScheduleRequest, context: Context
    ) -> pb.BackfillScheduleResponse:
        answer: pb.BackfillScheduleResponse = await self._in_its_cell(_BACKFILL, request, context)
        return answer

    async def DeleteSchedule(
        self, request: pb.DeleteScheduleRequest, context: Context
    ) -> pb.DeleteScheduleResponse:
        answer: pb.DeleteScheduleResponse = await self._in_its_cell(_DELETE, request, context)
        return answer

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Context) -> NoReturn:
        raise SpansCells("lists of schedules are", ONE_CELL)

    async def _in_its_cell(self, method: Method, request: Any, context: Context) -> Any:
        """The answer of the only cell that has a schedule of this name. All are asked before: it may be in
        two while its queue is moved. Raises SpansCells then."""
        call = passed(context)
        asked = await ask_each(self._cells.all, _GET, pb.GetScheduleRequest(name=request.name, slots=1), call)
        having = [cell for cell, answer in asked if not isinstance(answer, BrokerError)]
        errors = [answer for _, answer in asked if isinstance(answer, BrokerError)]
        if len(having) > 1:
            names = " and ".join(repr(each.name) for each in having)
            raise SpansCells(f"a schedule {request.name!r} that is in cells {names} is", ONE_CELL)
        if not having or not all(map(is_absent, errors)):
            raise none_has_it(errors)
        return await having[0].ask(method, request, call)
