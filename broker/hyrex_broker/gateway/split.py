"""Shares submitted tasks among the cells of their queues, and puts the answers together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as pb
from hyrex_broker.domain.errors import BrokerError, TooManyItems
from hyrex_broker.gateway.cell import GatewayCell
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.service.errors import to_item_error
from hyrex_broker.service.groups import MOST_TASKS, count_of, ids_of

_REJECTED: Final = pb.SUBMIT_OUTCOME_REJECTED


@dataclass(slots=True)
class CellPart:
    """What one cell gets of a request, and where its tasks stand in that."""

    cell: GatewayCell
    request: Any
    places: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def split_tasks(tasks: Sequence[task_pb2.NewTask], cells: GatewayCells) -> list[CellPart]:
    """The parts of a SubmitTasksRequest. Raises TooManyItems."""
    if len(tasks) > MOST_TASKS:
        raise TooManyItems(len(tasks), MOST_TASKS)
    parts: dict[GatewayCell, CellPart] = {}
    for place, task in enumerate(tasks):
        cell = cells.of(task.queue)
        part = parts.get(cell)
        if part is None:
            part = parts[cell] = CellPart(cell, pb.SubmitTasksRequest())
        part.request.tasks.append(task)
        part.places.append(place)
        part.ids.append(task.task_id)
    return list(parts.values())


def split_frame(frame: pb.StreamSubmitRequest, cells: GatewayCells) -> list[CellPart]:
    """The parts of a frame, without its sequence; for a single cell it is the frame. Raises TooManyItems."""
    counts = [count_of(group) for group in frame.groups]
    if sum(counts) > MOST_TASKS:
        raise TooManyItems(sum(counts), MOST_TASKS)
    homes = [cells.of(group.terms.queue) for group in frame.groups]
    frame.ClearField("sequence")
    distinct = list(dict.fromkeys(homes))
    parts = {
        cell: CellPart(cell, frame if len(distinct) == 1 else pb.StreamSubmitRequest()) for cell in distinct
    }
    first = 0
    for group, cell, count in zip(frame.groups, homes, counts, strict=True):
        part = parts[cell]
        if part.request is not frame:
            part.request.groups.append(group)
        part.places.extend(range(first, first + count))
        first += count
    return list(parts.values())


def merge_tasks(parts: Sequence[CellPart], answers: Sequence[Any], count: int) -> pb.SubmitTasksResponse:
    """One result for each task, in the order of the request."""
    results: list[pb.SubmitResult] = [pb.SubmitResult()] * count
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, BrokerError):
            found: Sequence[pb.SubmitResult] = _refused(part.ids, answer)
        else:
            found = answer.results
        for place, result in zip(part.places, found, strict=True):
            results[place] = result
    return pb.SubmitTasksResponse(results=results)


def merge_frame(sequence: int, parts: Sequence[CellPart], answers: Sequence[Any]) -> pb.StreamSubmitResponse:
    """The answer to a frame: what is not simply stored, by place. An answer is a sequence of PlacedResult."""
    response = pb.StreamSubmitResponse(sequence=sequence)
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, BrokerError):
            refused = _refused(ids_of(part.request.groups), answer)
            found = [
                pb.PlacedResult(place=place, result=each)
                for place, each in zip(part.places, refused, strict=True)
            ]
        else:
            found = [pb.PlacedResult(place=part.places[each.place], result=each.result) for each in answer]
        response.results.extend(found)
    return response


def _refused(ids: Sequence[str], error: BrokerError) -> list[pb.SubmitResult]:
    told = to_item_error(error)
    return [pb.SubmitResult(task_id=each, outcome=_REJECTED, error=told) for each in ids]
