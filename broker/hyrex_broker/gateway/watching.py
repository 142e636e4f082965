"""WatchTasks over all cells: each is asked for all tasks, tells which it lacks, and watches the others."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from hyrex.v1 import task_service_pb2 as pb
from hyrex_broker.domain.errors import CellAway, Draining, NoSuchTask
from hyrex_broker.domain.model import TaskId
from hyrex_broker.gateway.cell import GatewayCell, Passed
from hyrex_broker.gateway.methods import method

_WATCH: Final = method("TaskService", "WatchTasks")
_AGAIN_AFTER_S: Final = 0.5


class WatchOfCells:
    """One caller's tasks. A cell that is away is asked again until it is back, as a broker does whose
    database is away: what its tasks do meanwhile is told then."""

    def __init__(self, cells: Sequence[GatewayCell], task_ids: Sequence[TaskId], call: Passed) -> None:
        self._cells = cells
        self._call = call
        self._ids = list(dict.fromkeys(task_ids))
        self._lacking = dict.fromkeys(self._ids, 0)
        """Of each task, how many cells do not have it."""
        self._frames: asyncio.Queue[pb.WatchTasksResponse | Exception | None] = asyncio.Queue(1)

    async def frames(self, leaving: asyncio.Event) -> AsyncGenerator[pb.WatchTasksResponse, None]:
        """States as cells tell them, until all tasks have ended. Raises NoSuchTask, Relayed, FlowControl;
        Draining when `leaving` is set; any other error of a reader, which is a defect."""
        watching = len(self._cells)
        readers = [asyncio.create_task(self._read(each)) for each in self._cells]
        readers.append(asyncio.create_task(self._end(leaving)))
        try:
            while watching:
                frame = await self._frames.get()
                if frame is None:
                    watching -= 1
                elif isinstance(frame, Exception):
                    raise frame
                else:
                    yield frame
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)

    async def _end(self, leaving: asyncio.Event) -> None:
        await leaving.wait()
        await self._frames.put(Draining("this gateway is shutting down; connect to another"))

    async def _read(self, cell: GatewayCell) -> None:
        """Pass on what a cell tells, then None; an error that ends the watch instead."""
        ids = self._ids
        first = True
        while ids:
            try:
                async with aclosing(self._responses(cell, ids)) as responses:
                    async for response in responses:
                        if response.missing and first:
                            self._note_missing(response.missing)
                        if response.missing:
                            ids = sorted(set(ids) - set(response.missing))
                        first = False
                        if response.tasks:
                            await self._frames.put(response)
                ids = []
            except CellAway:
                await asyncio.sleep(_AGAIN_AFTER_S)
            except Exception as error:  # whatever it is: nobody else looks at how this reader ends
                await self._frames.put(error)
                return
        await self._frames.put(None)

    def _responses(self, cell: GatewayCell, ids: Sequence[str]) -> AsyncGenerator[Any, None]:
        request = pb.WatchTasksRequest(task_ids=ids, tell_missing=True)
        return cell.watch(_WATCH, request, self._call)

    def _note_missing(self, ids: Sequence[str]) -> None:
        """Raises NoSuchTask for one that no cell has. What was not asked for is no news."""
        for each in self._lacking.keys() & set(ids):
            self._lacking[each] += 1
            if self._lacking[each] == len(self._cells):
                raise NoSuchTask(each)
