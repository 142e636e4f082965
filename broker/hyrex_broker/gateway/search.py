"""Asks all cells at once, where nobody knows which of them has what is asked for."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.rpc.status_pb2 import Status

from hyrex_broker.domain.errors import BrokerError, CellAway
from hyrex_broker.domain.futures import retrieve
from hyrex_broker.gateway.cell import GatewayCell, Passed
from hyrex_broker.gateway.methods import Method
from hyrex_broker.service.errors import Relayed

_LONGEST_TEXT: Final = 2000
_ABSENT_REASONS: Final = frozenset({"TASK_NOT_FOUND", "PEER_NOT_FOUND"})


async def ask_each(
    cells: Iterable[GatewayCell], method: Method, request: Any, call: Passed
) -> list[tuple[GatewayCell, Any]]:
    """What each cell answers, or the BrokerError instead."""
    cells = list(cells)
    answers = await asyncio.gather(
        *(each.ask(method, request, call) for each in cells), return_exceptions=True
    )
    return [(cell, checked(answer)) for cell, answer in zip(cells, answers, strict=True)]


async def find(cells: Sequence[GatewayCell], method: Method, request: Any, call: Passed) -> Any:
    """The first answer of a cell that has what is asked for. Raises as `none_has_it`."""
    asking = {asyncio.ensure_future(each.ask(method, request, call)) for each in cells}
    for each in asking:
        each.add_done_callback(retrieve)  # of those that are done together, one answer is enough
    errors: list[BrokerError] = []
    try:
        while asking:
            done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                answer = checked(each.exception() or each.result())
                if not isinstance(answer, BrokerError):
                    return answer
                errors.append(answer)
    finally:
        for each in asking:
            each.cancel()
    raise none_has_it(errors)


def none_has_it(errors: Sequence[BrokerError]) -> BrokerError:
    """What to say where no cell has it. A cell that is away might, so that nothing is known without it. What
    other cells said beside is told in the message."""
    away = next((each for each in errors if isinstance(each, CellAway)), None)
    refused = next((each for each in errors if not is_absent(each)), None)
    first = away or refused or errors[0]
    others = {each.message: None for each in errors if not is_absent(each) and each.message != first.message}
    return _telling(first, others) if others else first


def _telling(error: BrokerError, others: Iterable[str]) -> BrokerError:
    text = f"{error.message}; another cell: {'; '.join(others)}"[:_LONGEST_TEXT]
    if isinstance(error, Relayed):
        status = Status()
        status.CopyFrom(error.status)
        status.message = text
        return Relayed(status)
    error.message = text
    return error


def is_absent(error: BrokerError) -> bool:
    """Return True if a cell says that it does not have what is asked for."""
    return isinstance(error, Relayed) and error.reason in _ABSENT_REASONS


def checked(answer: Any) -> Any:
    """An answer, or the BrokerError instead. Raises any other error."""
    if isinstance(answer, BaseException) and not isinstance(answer, BrokerError):
        raise answer
    return answer


def common_error(answers: Sequence[Any]) -> BrokerError | None:
    """The error with which all cells answered, if it is the same kind. Where one is away and another refuses,
    say, each item has to be told its own: some may be stored."""
    kinds = {
        (type(each), getattr(each, "reason", "")) if isinstance(each, BrokerError) else None
        for each in answers
    }
    return answers[0] if len(kinds) == 1 and None not in kinds else None
