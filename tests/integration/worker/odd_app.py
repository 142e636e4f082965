"""Tasks whose code does to its process and its errors what no code should. They write to $BENCH_JOURNAL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hyrex.app import HyrexApp
from hyrex.registry import HyrexRegistry
from tests.integration.worker import odd_errors, odd_handlers, odd_leftovers, odd_loops
from tests.integration.worker.odd_leftovers import life


@contextlib.asynccontextmanager
async def lifespan(app: HyrexApp) -> AsyncIterator[None]:
    """Set a variable for all runs, within what only one task may enter and leave."""
    async with asyncio.timeout(None), asyncio.TaskGroup():
        life.set("entered")
        yield


hy = HyrexRegistry()
app = HyrexApp("odd", lifespan=lifespan)
for registry in (hy, odd_errors.hy, odd_handlers.hy, odd_leftovers.hy, odd_loops.hy):
    app.add_registry(registry)


@hy.task
def add(a: int, b: int) -> int:
    """Run beside the others, and return the sum."""
    return a + b
