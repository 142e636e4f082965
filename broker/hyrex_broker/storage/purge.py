"""Purging queues: cancelling what waits in some lanes, chunk by chunk, each committed.

A chunk begins where the last one ended. From the beginning it would pass what the chunks before it have
deleted: as long as a transaction is held open anywhere, none of that is gone, and a purge of a million tasks
would read five hundred million.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("queues")
CHUNK: Final = 1000
_LANES: Final = 1000
"""Lanes that are looked at together: a queue may have a hundred thousand."""
_LOWEST: Final = lowest_id(0)

_Place = tuple[LaneId, int]


@dataclass(frozen=True, slots=True)
class Purged:
    """Tasks that a chunk has cancelled."""

    task_ids: list[TaskId]
    to_follow: list[TaskId]
    """Those of followed lanes."""
    keys: list[int]
    """Concurrency keys that some of them waited for."""


class Purge:
    """Cancels what waits in some lanes and arrived until a time, for one reason."""

    def __init__(self, database: Database, reason: str, until: datetime) -> None:
        self._database = database
        self._reason = reason
        self._until = until

    async def run(self, lanes: Mapping[LaneId, bool]) -> AsyncIterator[Purged]:
        """What was cancelled, chunk by chunk; `lanes` says of each whether it is followed. Raises
        StorageUnavailable: what was told stays cancelled."""
        followed = [lane for lane, is_followed in lanes.items() if is_followed]
        for part in _parts(followed, _LANES):
            async for rows in self._by_lane("purge_blocked", dict.fromkeys(part, _LOWEST)):
                keys = {row["key"] for row in rows} - {None}
                yield Purged(_ids(rows), _ids(rows), sorted(keys))
        async for rows in self._waiting([*lanes]):
            yield Purged(_ids(rows), _ids([row for row in rows if lanes[row["lane"]]]), [])

    async def _waiting(self, lanes: Sequence[LaneId]) -> AsyncIterator[Sequence[Any]]:
        for part in _parts(lanes, _LANES):
            found = await self._database.fetch(_SQL["places_to_purge"], part, self._until)
            ready = {(row["lane"], row["rank"]): row["arrival"] for row in found if row["rank"] is not None}
            async for chunk in self._ready(ready):
                yield chunk
            delayed = {row["lane"]: _LOWEST for row in found if row["rank"] is None}
            async for chunk in self._by_lane("purge_delayed", delayed):
                yield chunk

    async def _ready(self, marks: dict[_Place, datetime]) -> AsyncIterator[Sequence[Any]]:
        while marks:
            rows = await self._database.fetch(
                _SQL["purge_ready"], [lane for lane, _ in marks], [rank for _, rank in marks],
                [*marks.values()], self._until, self._reason, CHUNK,
            )  # fmt: skip
            marks = _left(marks, [((row["lane"], row["rank"]), row["arrival"]) for row in rows])
            if rows:
                self._count(rows)
                yield rows

    def _count(self, rows: Sequence[Any]) -> None:
        self._database.counters.cancelled(Counter(row["lane"] for row in rows))

    async def _by_lane(self, name: str, marks: dict[LaneId, TaskId]) -> AsyncIterator[Sequence[Any]]:
        """Chunks of what is delayed, or blocked."""
        while marks:
            rows = await self._database.fetch(
                _SQL[name], [*marks], [*marks.values()], self._until, self._reason, CHUNK
            )
            marks = _left(marks, [(row["lane"], TaskId(str(row["task_id"]))) for row in rows])
            if rows:
                self._count(rows)
                yield rows


def _left(marks: dict[Any, Any], taken: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    """The places where something may be left, and from where on: a chunk goes through them in their order."""
    if len(taken) < CHUNK:
        return {}
    highest: dict[Any, Any] = {}
    for place, mark in taken:
        highest[place] = max(mark, highest.get(place, mark))
    places = [*marks]
    last = max(at for at, place in enumerate(places) if place in highest)
    return {place: highest.get(place, marks[place]) for place in places[last:]}


def _ids(rows: Sequence[Any]) -> list[TaskId]:
    return [TaskId(str(row["task_id"])) for row in rows]


def _parts(lanes: Sequence[LaneId], size: int) -> Iterator[list[LaneId]]:
    return (list(lanes[start : start + size]) for start in range(0, len(lanes), size))
