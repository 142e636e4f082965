"""What a gateway says where it asks all cells."""

import asyncio
import gc
from typing import Any

import pytest

from hyrex_broker.domain.errors import BrokerError, CellAway, NoSuchTask, RightMissing
from hyrex_broker.gateway.cell import Passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.search import common_error, find
from hyrex_broker.service.errors import Relayed, to_status

GET = method("TaskService", "GetTask")


class ScriptedCell:
    """Answers at once, or is away or refuses at once."""

    def __init__(self, answer: str | BrokerError | None) -> None:
        self._answer = answer

    async def ask(self, method: object, request: object, call: object) -> str:
        if self._answer is None:
            raise CellAway("other", "it does not answer")
        if isinstance(self._answer, BrokerError):
            raise self._answer
        return self._answer


async def test_errors_that_come_together_with_the_answer_are_no_surprise() -> None:
    """asyncio would log each as an exception that was never retrieved."""
    surprises: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: surprises.append(told))
    cells: Any = [ScriptedCell("found"), *[ScriptedCell(None) for _ in range(20)]]
    assert await find(cells, GET, None, Passed((), 1.0)) == "found"
    gc.collect()
    assert surprises == []


def relayed(error: BrokerError) -> Relayed:
    return Relayed(to_status(error))


DENIED, LACKS = RightMissing("read", "a"), NoSuchTask("x")


async def test_each_cells_own_error_is_told_where_they_differ() -> None:
    """One that is away might have it, so that comes first; that another refuses is no secret either."""
    cells: Any = [ScriptedCell(relayed(LACKS)), ScriptedCell(relayed(DENIED)), ScriptedCell(None)]
    with pytest.raises(CellAway) as away:
        await find(cells, GET, None, Passed((), 1.0))
    assert "it does not answer; repeat it; another cell: " in away.value.message
    assert away.value.message.endswith(DENIED.message)
    with pytest.raises(Relayed) as refused:
        await find(cells[:2], GET, None, Passed((), 1.0))
    assert (refused.value.reason, refused.value.message) == ("RIGHT_MISSING", DENIED.message)


def test_only_errors_of_one_kind_are_those_of_a_whole_call() -> None:
    """Of the others each item is told its own: what is away may be stored."""
    away = CellAway("a", "it is silent")
    assert common_error([away, CellAway("b", "it is gone")]) is away
    assert common_error([away, relayed(DENIED)]) is None
    assert common_error([relayed(LACKS), relayed(DENIED)]) is None
    assert common_error([away, "stored"]) is None
    assert common_error([]) is None
