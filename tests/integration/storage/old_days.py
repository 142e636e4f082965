"""A day of long ago with tasks in it, for tests of what retention keeps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hyrex_broker.domain.model import Outcome, TaskExtras, TaskId
from hyrex_broker.storage import partitions
from hyrex_broker.storage.retention import RetentionStore
from tests.integration.storage.stage import Stage, make_id, new_task
from tests.support.postgres import connect

KEEP: Final = timedelta(days=7)
BAD: Final = timedelta(days=30)
_TABLES: Final = ("task", "task_run", "idempotency", "reopen", "dismissal")


async def old_day(connection: Any, ago: int = 20) -> tuple[datetime, int]:
    """A partition of long ago, and a Unix time (ms) in it."""
    day = partitions.day_of(datetime.now(UTC)) - timedelta(days=ago)
    for parent, _ in partitions.PARENTS:
        await partitions._ensure_one(connection, parent, day)
    return day, int(day.timestamp() * 1000) + 1000


async def tables_of(connection: Any, day: datetime) -> list[str]:
    rows = await connection.fetch("select relname from pg_class where relname ~ $1", f"^task.*_{day:%Y%m%d}$")
    return [row[0] for row in rows]


@dataclass
class OldDay:
    """A day of long ago, with tasks in it by what became of them."""

    stage: Stage
    connection: Any
    start: datetime
    moment: int
    ids: dict[str, TaskId] = field(default_factory=dict)

    @classmethod
    async def of(cls, stage: Stage, connection: Any, *names: str, ago: int = 20) -> "OldDay":
        """Tasks with these names: `sleeps`, or an outcome and anything after it."""
        day = cls(stage, connection, *await old_day(connection, ago))
        for name in names:
            await day.add(name)
        return day

    async def add(self, name: str, **changes: Any) -> TaskId:
        """One more task."""
        self.moment += 1
        extras = TaskExtras(delay_ms=3_600_000) if name.startswith("sleeps") else None
        task = new_task(make_id(self.moment), extras=extras, key=name, **changes)
        self.ids[name] = task.task_id
        await self.stage.submit(task)
        if extras is None:
            lane = await self.stage.lane(task.terms.queue, task.terms.name)
            (run,) = await self.stage.assign(await self.stage.session(), lane=lane)
            await self.stage.end(run, Outcome[name.split()[0].upper()])
        return task.task_id

    async def kept(self) -> set[str]:
        """Names of the tasks that are still there."""
        return await self.named("select id::text from task")

    async def named(self, statement: str) -> set[str]:
        """Names of the tasks with these ids."""
        found = {row[0] for row in await self.connection.fetch(statement)}
        return {name for name, task_id in self.ids.items() if task_id in found}

    async def is_whole(self) -> bool:
        """Return True if the day has its two tables, and nothing is left beside them."""
        digits = f"{self.start:%Y%m%d}"
        left = await self.connection.fetchval(
            "select count(*) from pg_class where relname ~ '_(kept|lived)$'"
        )
        tables = sorted(await tables_of(self.connection, self.start))
        return tables == [f"task_{digits}", f"task_run_{digits}"] and not left

    async def retained(self, bad_ends: timedelta = BAD) -> None:
        """A round of retention, as if the last look was long ago."""
        await self.connection.execute("delete from compaction")
        await RetentionStore(self.stage.database.url).maintain(KEEP, bad_ends)


@asynccontextmanager
async def upkeep(url: str) -> AsyncIterator[Any]:
    """A connection as retention has it."""
    made = await connect(url)
    try:
        yield made
    finally:
        made.terminate()
