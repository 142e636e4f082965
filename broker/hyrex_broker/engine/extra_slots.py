"""Where tasks of slots are put, and the slots that somebody asks for."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hyrex_broker.domain.errors import QueueAtMaximum
from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.domain.schedules import Cause, StoredSchedule
from hyrex_broker.engine.keyed_lanes import KeyedLanes
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.schedule_parts import at_once, new_id, refusal
from hyrex_broker.engine.submit.keyed import KeyHasher
from hyrex_broker.engine.submit.rooms import Rooms, Taken
from hyrex_broker.storage.schedule_rows import SlotTask, StoredSlot
from hyrex_broker.storage.schedules import ScheduleStore
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.submit import is_repetition


class Wakes(Protocol):
    """Assigns what is ready."""

    def wake(self, pairs: Iterable[tuple[LaneId, int]], *, local: bool) -> None:
        """These (lane, rank) pairs have work."""
        ...


@dataclass(frozen=True, slots=True)
class LanesAndRooms:
    """Where tasks are put: lanes, the room in them, and whoever assigns what is ready."""

    directory: Directory
    rooms: Rooms
    dispatcher: Wakes
    keys: KeyHasher


class SlotPlaces:
    """Lanes and room for tasks of slots."""

    def __init__(self, store: ScheduleStore, lanes: LanesAndRooms) -> None:
        self._counters = store.counters
        self._directory = lanes.directory
        self._rooms = lanes.rooms
        self._dispatcher = lanes.dispatcher
        self.of = KeyedLanes(lanes.directory, lanes.keys).of
        self.on_blocked: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        """Called with tasks that wait until they are followed, after the commit."""

    async def room(self, wanted: Mapping[str, int]) -> Taken:
        """Room for as many of so many tasks of queues as there is. Raises StorageUnavailable."""
        return await self._rooms.taken_of(list(wanted.items()), self._directory.max_waiting)

    def refusal(self, queue: str) -> QueueAtMaximum:
        """What is told where there was no room."""
        return self._rooms.refusal(queue)

    def follow(self, stored: Sequence[StoredSlot]) -> None:
        """Let it be assigned."""
        if stored:
            self._counters.stored(Counter(each.lane for each in stored))
            ready = {(each.lane, each.rank) for each in stored if not each.is_blocked}
            if ready:
                self._dispatcher.wake(ready, local=True)
            if blocked := [each.task_id for each in stored if each.is_blocked]:
                self.on_blocked(blocked)


class ExtraSlots:
    """Stores tasks for slots that somebody asks for."""

    def __init__(self, store: ScheduleStore, places: SlotPlaces) -> None:
        self._store = store
        self._places = places

    async def store(
        self, schedule: StoredSchedule, slots: Sequence[datetime], cause: Cause, task_id: TaskId | None = None
    ) -> list[StoredSlot]:
        """Store tasks for slots of a schedule, the first ones as far as there is room; what was stored.

        A slot that has its task is left out, and all are if the schedule's tasks are others now. Raises
        QueueAtMaximum, TooManyQueues, InvalidField if the database refuses one, StorageUnavailable, and
        StatementRefused if the id is that of a task.
        """
        wanted = schedule.definition
        place, now = (await self._places.of([wanted.named]))[wanted.named], await self._store.now()
        lane = place.known(wanted.queue, wanted.task)
        tasks = [
            SlotTask(wanted.name, slot, task_id or new_id(now), lane, cause, place.key_hash) for slot in slots
        ]
        stored, most = list[StoredSlot](), at_once(len(wanted.payload))
        for start in range(0, len(tasks), most):
            stored += await self._store_part(schedule, tasks[start : start + most])
        return stored

    async def _store_part(self, schedule: StoredSchedule, tasks: Sequence[SlotTask]) -> list[StoredSlot]:
        """Raises QueueAtMaximum also where it has stored the first of them."""
        queue = schedule.definition.queue
        taken = await self._places.room({queue: len(tasks)})
        room = taken.counts[0]
        try:
            found = await self._store.fire_extra(tasks[:room], schedule.definition.named) if room else []
        except StatementRefused as error:
            if is_repetition(error):
                raise
            raise refusal(schedule.definition.name, error) from error
        finally:
            taken.let_go()
        self._places.follow(found)
        if room < len(tasks):
            raise self._places.refusal(queue)
        return found
