"""Schedules and their slots. To store a slot's task and to move its schedule on is one statement."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from hyrex_broker.domain.keys import KeyedName
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.schedules import DueSchedule, FiredSlot, ScheduleDefinition
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.schedule_rows import (
    Due,
    KnownSchedule,
    Move,
    NextSchedule,
    QueueOfSchedule,
    Seen,
    SlotTask,
    StoredSlot,
    due_of,
    fired_of,
    options_text,
    schedule_of,
    stored_of,
)
from hyrex_broker.storage.statements import load

_SQL: Final = load("schedules")
EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ScheduleStore:
    """Statements of `schedules.sql`. Each raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.counters = database.counters

    async def due(self, most: int, without: Sequence[str] = (), mark: datetime = EVER) -> Due | None:
        """Schedules that are due from a low-water mark on, the longest due first, but for some names; None
        where there is none."""
        rows = await self._database.fetch(_SQL["due"], most, list(without), mark)
        return Due([due_of(row) for row in rows], rows[0]["now"]) if rows else None

    async def below(self, mark: datetime) -> datetime | None:
        """When the first one below a mark is due; None where there is none."""
        row = await self._database.fetchrow(_SQL["due_below"], mark)
        return None if row is None else row["due_at"]

    async def next_due(self, without: Sequence[str] = (), mark: datetime = EVER) -> NextSchedule:
        """When the next one at or above a mark is due, but for some names."""
        row = await self._database.fetchrow(_SQL["next_due"], list(without), mark)
        assert row is not None
        return NextSchedule(row["wait_s"], row["now"])

    async def fire(self, moves: Sequence[Move], tasks: Sequence[SlotTask]) -> list[StoredSlot]:
        """Store tasks and move their schedules on; what was stored. Raises StatementRefused."""
        moves = sorted(moves, key=lambda each: each.name)
        tasks = sorted(tasks, key=lambda each: (each.name, each.slot))
        rows = await self._database.fetch(
            _SQL["fire"],
            [each.name for each in moves],
            [each.revision for each in moves],
            [each.seen_at for each in moves],
            [each.next_at for each in moves],
            [each.due_at for each in moves],
            [each.name for each in tasks],
            [each.slot for each in tasks],
            [each.task_id for each in tasks],
            [each.lane for each in tasks],
            [each.cause.value for each in tasks],
            [each.key_hash for each in tasks],
        )
        return [stored_of(row) for row in rows]

    async def fire_extra(self, tasks: Sequence[SlotTask], named: KeyedName) -> list[StoredSlot]:
        """Store tasks for slots of one schedule, which goes on as it would; what was stored: nothing if its
        tasks are others now. Raises StatementRefused."""
        first = tasks[0]
        rows = await self._database.fetch(
            _SQL["fire_extra"],
            first.name,
            [each.slot for each in tasks],
            [each.task_id for each in tasks],
            first.lane,
            first.cause.value,
            *named,
            first.key_hash,
        )
        return [stored_of(row) for row in rows]

    async def put_off(self, due: Sequence[DueSchedule], pause: timedelta) -> None:
        """Look at these again later."""
        names = [each.name for each in due]
        await self._database.execute(_SQL["put_off"], names, [each.next_at for each in due], pause)

    async def standing(self, name: str) -> QueueOfSchedule:
        """The queue of a schedule, if there is one, and the database's time."""
        row = await self._database.fetchrow(_SQL["standing"], name)
        assert row is not None
        return QueueOfSchedule(row["queue"], row["now"])

    async def put(
        self, definition: ScheduleDefinition, next_at: datetime, due_at: datetime, seen: str | None
    ) -> bool:
        """Store a schedule, if it is of the queue that was seen (None: there was none). False also if it says
        the same, or is an operator's and this is code."""
        row = await self._database.fetchrow(
            _SQL["put"],
            definition.name,
            definition.task,
            definition.queue,
            definition.cron,
            definition.tz,
            definition.payload,
            options_text(definition.options),
            definition.catchup.value,
            definition.jitter_s,
            definition.paused,
            definition.source.value,
            next_at,
            due_at,
            seen,
        )
        await self._database.confirm()
        return row is not None

    async def find(self, name: str) -> Seen | None:
        """One schedule."""
        row = await self._database.fetchrow(_SQL["find"], name)
        return None if row is None else Seen(schedule_of(row), row["now"])

    async def known(self, wanted: Sequence[ScheduleDefinition]) -> dict[str, KnownSchedule]:
        """What is there under the names of these, by name."""
        names, sizes = [each.name for each in wanted], [len(each.payload) for each in wanted]
        rows = await self._database.fetch(_SQL["known"], names, sizes)
        return {row["name"]: KnownSchedule(schedule_of(row).definition, row["digest"]) for row in rows}

    async def confirm(self) -> None:
        """Before an answer from rows that others stored (see `Database.confirm`)."""
        await self._database.confirm()

    async def page(self, after: str, size: int, sees: Callable[[str], bool]) -> tuple[list[Seen], str | None]:
        """Of so many schedules by name, from this name on, those of queues that somebody sees, without their
        payloads; and where to go on (None: there are no more)."""
        rows = await self._database.fetch(_SQL["page"], after, size, read=True)
        found = [Seen(schedule_of(row), row["now"]) for row in rows if sees(row["queue"])]
        return found, rows[-1]["name"] if len(rows) == size else None

    async def now(self) -> datetime:
        """The database's time."""
        row = await self._database.fetchrow(_SQL["now"])
        assert row is not None
        moment: datetime = row["now"]
        return moment

    async def pause(self, name: str, revision: int) -> bool:
        """Let nothing of it be due; False if it is not as it was seen, here and below."""
        return await self._changed(_SQL["pause"], name, revision)

    async def resume(self, name: str, revision: int, next_at: datetime, due_at: datetime) -> bool:
        """Let it go on with this slot, if it is paused."""
        return await self._changed(_SQL["resume"], name, revision, next_at, due_at)

    async def delete(self, name: str, revision: int) -> bool:
        """Remove it."""
        return await self._changed(_SQL["delete"], name, revision)

    async def _changed(self, sql: str, *args: object) -> bool:
        row = await self._database.fetchrow(sql, *args)
        await self._database.confirm()
        return row is not None

    async def last_slots(self, name: str, most: int) -> list[FiredSlot]:
        """Its last slots that have tasks, the latest first."""
        return list(map(fired_of, await self._database.fetch(_SQL["last_slots"], name, most, read=True)))

    async def stored_slots(self, name: str, slots: Sequence[datetime]) -> list[FiredSlot]:
        """Those of these slots that have their task, also after a failover."""
        rows = await self._database.fetch(_SQL["stored_slots"], name, slots)
        if rows:
            await self._database.confirm()
        return list(map(fired_of, rows))

    async def forgotten_through(self, name: str) -> datetime | None:
        """The last slot of which it may be forgotten that it had its task."""
        row = await self._database.fetchrow(_SQL["forgotten_through"], name)
        return None if row is None else row["forgotten_through"]

    async def slot_of(self, name: str, task_id: TaskId) -> datetime | None:
        """The slot of a task of this schedule, there also after a failover."""
        row = await self._database.fetchrow(_SQL["slot_of"], name, task_id)
        if row is not None:
            await self._database.confirm()
        return None if row is None else row["slot"]
