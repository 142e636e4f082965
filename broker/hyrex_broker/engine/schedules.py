"""Stores the tasks of schedules when their slots are due, by the database's clock.

Every broker looks; whoever locks a schedule first stores its task. Between slots it sleeps until the next one
is due, and looks again every few seconds: another broker may have stored a schedule and be gone. After a jump
of the database's clock nothing is stored for a lease (rule 34): it may be set back at once.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from hyrex.runtime.cron import Cron, ZoneUnknown
from hyrex_broker.domain.errors import StorageUnavailable, TooManyQueues
from hyrex_broker.domain.schedules import (
    Cause,
    DueSchedule,
    ScheduleDefinition,
    ScheduleSource,
    StoredSchedule,
    slots_to_fire,
)
from hyrex_broker.engine.clock import DatabaseClock
from hyrex_broker.engine.declared_later import Covers, DeclaredLater
from hyrex_broker.engine.extra_slots import ExtraSlots, LanesAndRooms, SlotPlaces
from hyrex_broker.engine.head_mark import HeadMark, look_below
from hyrex_broker.engine.keyed_lanes import KeyedPlace
from hyrex_broker.engine.schedule_parts import Firing, ForeignZones, new_id, parts, refusal, with_jitter
from hyrex_broker.storage.schedule_rows import Move, SlotTask
from hyrex_broker.storage.schedules import ScheduleStore
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_BATCH: Final = 200
LOOK_EVERY_S: Final = 5.0
_SHORTEST_WAIT_S: Final = 0.1
_FULL_FOR: Final = timedelta(seconds=5)
_UNREADABLE_FOR: Final = timedelta(minutes=1)


ATTEMPTS: Final = 5


class ScheduleElsewhere(Exception):
    """There is a schedule of that name in a queue in which the caller may change nothing."""


class ScheduledSubmits:
    """Stores what is due, and what somebody asks for."""

    def __init__(
        self,
        store: ScheduleStore,
        mark: HeadMark,
        lanes: LanesAndRooms,
        clock: DatabaseClock,
        lease_duration: timedelta,
    ) -> None:
        """`mark`: where the schedules are read from."""
        self._store = store
        self.places = self._places = SlotPlaces(store, lanes)
        self.extra = ExtraSlots(store, self._places)
        self._clock = clock
        self._jumps_known = clock.jump_count
        self._lease_s = lease_duration.total_seconds()
        self._quiet_until = float("-inf")
        self._wanted = asyncio.Event()
        self.mark: Final = mark
        self._foreign = ForeignZones()
        self.later: Final = DeclaredLater()

    def look(self) -> None:
        """A schedule has changed."""
        self._wanted.set()

    async def run(self) -> None:
        """Store until cancelled."""
        await self.mark.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fire_when_due())
            group.create_task(look_below(self.find_below))
            group.create_task(self.later.run(self.declare))

    async def find_below(self) -> None:
        """Go back to the first schedule that is due below the mark. Raises StorageUnavailable."""
        if await self.mark.lower(self._store.below):
            self.look()

    async def _fire_when_due(self) -> None:
        while True:
            self._wanted.clear()
            try:
                wait_s = await self.fire_due()
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("schedules wait for the database", extra={"error": str(error)})
                wait_s = LOOK_EVERY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wanted.wait()

    async def fire_due(self) -> float:
        """Store all that is due; return how many seconds to wait for more. Raises StorageUnavailable."""
        while True:
            foreign = self._foreign.now()
            next_due = await self._store.next_due(foreign, self.mark.at)
            quiet_s = self._quiet_s(next_due.now)
            if quiet_s > 0:
                return min(quiet_s, LOOK_EVERY_S)
            if next_due.wait_s is None or next_due.wait_s > 0:
                self.mark.nothing_due(next_due.now)
                await self.mark.save()
                return min(LOOK_EVERY_S, next_due.wait_s or LOOK_EVERY_S)
            due = await self._store.due(_BATCH, foreign, self.mark.at)
            if due is None or not await self._fire(due.schedules, due.now):
                return _SHORTEST_WAIT_S  # another broker has them

    def _quiet_s(self, now: datetime) -> float:
        """How long nothing may be stored, since the database's clock jumped."""
        self._clock.observe(now.timestamp())
        if self._clock.jump_count != self._jumps_known:
            self._jumps_known = self._clock.jump_count
            self._quiet_until = time.monotonic() + self._lease_s
        return self._quiet_until - time.monotonic()

    async def _fire(self, due: Sequence[DueSchedule], now: datetime) -> bool:
        """Store tasks of these, as far as there is room; True if something has moved."""
        places = await self._places.of(each.named for each in due)
        firings: list[Firing] = []
        unreadable: list[DueSchedule] = []
        foreign = 0
        for each in due:
            try:
                firings.append(self._firing(each, now, places[each.named]))
            except ZoneUnknown as error:
                self._foreign.add(each.name)
                log.error(
                    "this broker does not know a schedule's time zone and leaves it to others for a minute:"
                    " update its tzdata",
                    extra={"schedule": each.name, "error": str(error)},
                )
                foreign += 1
            except (ValueError, TooManyQueues) as error:
                log.error("a schedule cannot be stored", extra={"schedule": each.name, "error": str(error)})
                unreadable.append(each)
            await asyncio.sleep(0)  # an expression may take a millisecond
        if unreadable:
            await self._store.put_off(unreadable, _UNREADABLE_FOR)
        stored = 0
        for part in parts(firings):
            stored += await self._store_part(part)
        if stored:
            self.mark.keep()
        return bool(unreadable or stored or foreign)

    def _firing(self, due: DueSchedule, now: datetime, place: KeyedPlace) -> Firing:
        """Raises ValueError if its expression has no next slot, TooManyQueues if its lane cannot be made."""
        cron = Cron(due.cron, due.tz)
        slots = slots_to_fire(due, cron, now)
        next_at = cron.next_after(max(now, due.next_at))
        lane = place.known(due.queue, due.task)
        cause = [*[Cause.MISSED] * (len(slots) - 1), Cause.DUE]
        return Firing(
            due,
            Move(due.name, due.revision, due.next_at, next_at, with_jitter(next_at, due.jitter_s)),
            [
                SlotTask(due.name, slot, new_id(now), lane, why, place.key_hash)
                for slot, why in zip(slots, cause, strict=True)
            ],
        )

    async def _store_part(self, firings: Sequence[Firing]) -> int:
        """Store as many of the oldest slots as there is room for, and put schedules off that have none; how
        many schedules have moved or may have."""
        wanted = Counter[str]()
        for firing in firings:
            wanted[firing.due.queue] += len(firing.tasks)
        taken = await self._places.room(wanted)
        try:
            left = dict(zip(wanted, taken.counts, strict=True))
            fits: list[Firing] = []
            full: list[DueSchedule] = []
            for firing in firings:
                queue = firing.due.queue
                if left[queue]:
                    fits.append(firing.first(left[queue]))
                    left[queue] -= len(fits[-1].tasks)
                else:
                    full.append(firing.due)
            moved = await self._store_all(fits) if fits else 0
        finally:
            taken.let_go()
        if full:
            names = [each.name for each in full[:20]]
            log.warning("schedules wait for room in their queues", extra={"schedules": names})
            await self._store.put_off(full, _FULL_FOR)
        return moved + len(full)

    async def _store_all(self, firings: Sequence[Firing]) -> int:
        """Store together; what the database refuses, or cannot store in time, is put off alone (rule 6)."""
        try:
            tasks = [task for firing in firings for task in firing.tasks]
            stored = await self._store.fire([firing.move for firing in firings], tasks)
        except StatementRefused as error:
            if error.lacks_partition:
                raise
            return await self._store_apart(firings, error)
        except StorageUnavailable as error:
            if not error.timed_out:
                raise
            return await self._store_apart(firings, error)
        self._places.follow(stored)
        return len({each.name for each in stored})

    async def _store_apart(self, firings: Sequence[Firing], error: Exception) -> int:
        """Store each half of what could not be stored together; of one schedule only its oldest slots."""
        if len(firings) > 1:
            half = len(firings) // 2
            return await self._store_all(firings[:half]) + await self._store_all(firings[half:])
        (firing,) = firings
        if len(firing.tasks) > 1:
            return await self._store_all([firing.first(len(firing.tasks) // 2)])
        name = firing.due.name
        log.error("a schedule's task could not be stored", extra={"schedule": name, "error": str(error)})
        await self._store.put_off([firing.due], _UNREADABLE_FOR)
        return 1

    async def put(self, definition: ScheduleDefinition, covers: Covers | None = None) -> bool:
        """Store a schedule; False if nothing changed. Raises ScheduleElsewhere if there is one of that name
        in a queue that `covers` does not tell, ValueError for what is never due, InvalidField if the database
        refuses it, StorageUnavailable."""
        for _ in range(ATTEMPTS):
            found = await self._store.standing(definition.name)
            if found.queue is not None and covers is not None and not covers(found.queue):
                raise ScheduleElsewhere
            next_at = Cron(definition.cron, definition.tz).next_after(found.now)
            due_at = with_jitter(next_at, definition.jitter_s)
            try:
                changed = await self._store.put(definition, next_at, due_at, found.queue)
            except StatementRefused as error:
                raise refusal(definition.name, error) from error
            if changed:
                self.look()
                return True
            if (await self._store.standing(definition.name)).queue == found.queue:
                return False
        raise kept_changing(definition.name)

    async def declare(self, definitions: Sequence[ScheduleDefinition], covers: Covers | None = None) -> bool:
        """Store what code declares, where it differs and no operator wrote it; True if something changed.
        Whoever declares is not told of a schedule in a queue that `covers` does not tell: it stays as it is.
        Raises StorageUnavailable."""
        definitions = await self.later.without(definitions, covers)
        known = await self._store.known(definitions) if definitions else {}
        changed, elsewhere = False, list[str]()
        for each in definitions:
            found = known.get(each.name)
            if found is None or (found.source is ScheduleSource.CODE and not found.says(each)):
                try:
                    changed |= await self.put(each, covers)
                except ScheduleElsewhere:
                    elsewhere.append(each.name)
        if elsewhere:
            log.warning(
                "schedules of a worker's code were left out: there are others of these names in queues that"
                " its token is not for; rename them, or delete those",
                extra={"schedules": elsewhere[:20]},
            )
        if definitions and not changed:
            await self._store.confirm()
        return changed

    async def pause(self, schedule: StoredSchedule) -> bool:
        """Let nothing of it be due; False if it was changed since it was seen. Raises StorageUnavailable."""
        if schedule.definition.paused:
            await self._store.confirm()
            return True
        return await self._store.pause(schedule.definition.name, schedule.revision)

    async def resume(self, schedule: StoredSchedule) -> bool:
        """Let a paused schedule go on with the next slot; False if it was changed since it was seen. Raises
        StorageUnavailable."""
        wanted = schedule.definition
        if not wanted.paused:
            await self._store.confirm()
            return True
        next_at = Cron(wanted.cron, wanted.tz).next_after(await self._store.now())
        due_at = with_jitter(next_at, wanted.jitter_s)
        changed = await self._store.resume(wanted.name, schedule.revision, next_at, due_at)
        self.look()
        return changed


def kept_changing(name: str) -> StorageUnavailable:
    """Others changed a schedule whenever this call had looked at it."""
    return StorageUnavailable(f"schedule {name!r} was changed by others meanwhile; try again", conflict=True)
