"""What a gateway says where it asks all cells."""

import asyncio
import gc
from typing import Any

from hyrex_broker.domain.errors import CellAway
from hyrex_broker.gateway.cell import Passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.search import find

GET = method("TaskService", "GetTask")


class ScriptedCell:
    """Answers at once, or is away at once."""

    def __init__(self, answer: str | None) -> None:
        self._answer = answer

    async def ask(self, method: object, request: object, call: object) -> str:
        if self._answer is None:
            raise CellAway("other", "it does not answer")
        return self._answer


async def test_errors_that_come_together_with_the_answer_are_no_surprise() -> None:
    """asyncio would log each as an exception that was never retrieved."""
    surprises: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: surprises.append(told))
    cells: Any = [ScriptedCell("found"), *[ScriptedCell(None) for _ in range(20)]]
    assert await find(cells, GET, None, Passed((), 1.0)) == "found"
    gc.collect()
    assert surprises == []
