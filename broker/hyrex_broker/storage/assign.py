"""Assigns: moves the best ready tasks of some lanes to sessions, in one statement."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.ids import HexId, lowest_id
from hyrex_broker.domain.model import BrokerId, LaneId, SessionId, TaskId, Token
from hyrex_broker.storage.assigned import arrivals_of, blocks_of, reads_of
from hyrex_broker.storage.columns import integers
from hyrex_broker.storage.limits import Clock, LimitKey, Room, lock
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

_SQL: Final = load("assign")

INLINE_PAYLOAD_BYTES: Final = 64 * 1024
"""A payload up to this size is read with its assign,"""
ASSIGN_PAYLOAD_BYTES: Final = 8 * 1024 * 1024
"""as long as all of them together, with every slot filled, are at most this (rule 15)."""
_TOLD: Final = 10
_RECENT_S: Final = 2 * 24 * 3600
"""Tasks made since then are looked for in the partitions of those days, older ones one by one."""


@dataclass(slots=True)
class LaneQuota:
    """How many runs one lane may give, and the low-water marks from which its ranks are read."""

    lane: LaneId
    pairs: list[tuple[int, datetime]]
    """(rank, low-water mark) in order of priority."""
    slots: list[SessionId] = field(default_factory=list)
    """The session that gets the first, second, ... run; its length is the quota."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One assign: its sessions, lanes and tokens."""

    owner: BrokerId
    generations: Mapping[SessionId, int]
    sequences: Mapping[SessionId, int]
    tokens: Sequence[Token]
    """The token of each slot, in the order of the quotas' slots."""
    quotas: Sequence[LaneQuota]


@dataclass(frozen=True, slots=True)
class AssignResult:
    """What an assign took, and its time by the database's clock (None: no statement was made).

    `refused`: not all of the plan's sessions are this broker's, so nothing was taken.
    `allowed` is how many runs limits left to each lane (None: there were no limits).
    """

    blocks: list[AssignedBlock]
    taken_at: datetime | None
    refused: bool
    allowed: Mapping[LaneId, int] | None = None
    waits: Mapping[LaneId, timedelta] = field(default_factory=dict)
    """How long until the rates of a lane allow more, of those that wait for that"""
    read: Mapping[tuple[LaneId, int], tuple[int, datetime]] = field(default_factory=dict)
    """(lane, rank) -> how many runs it gave, and the latest arrival of them"""
    arrivals: Mapping[tuple[LaneId, int, datetime], int] = field(default_factory=dict)
    """(lane, rank, arrival) -> how many runs"""
    expired: Sequence[tuple[TaskId, LaneId]] = ()
    """Tasks that were to run and have ended instead, since their time to begin was over."""


class AssignStore:
    """Statements of `assign.sql`."""

    def __init__(self, database: Database, slack_ms: int) -> None:
        """`slack_ms`: what a lease has beyond its run's timeout."""
        self._database = database
        self.counters = database.counters
        self._slack_ms = slack_ms

    async def assign(self, plan: Plan, names: Mapping[LaneId, tuple[str, str]]) -> AssignResult:
        """Assign from lanes without a limit. `names` gives (queue, task name) of each lane."""
        rows = await self._database.fetch(_SQL["assign"], *self._arguments(plan, limited=False))
        return _result(rows, names, plan)

    async def assign_limited(
        self,
        plan: Plan,
        names: Mapping[LaneId, tuple[str, str]],
        limits: Mapping[LaneId, Sequence[LimitKey]],
        clock: Clock = lambda now: None,
    ) -> AssignResult:
        """Assign from lanes with limits: lock them, see what they leave, clip the quotas, assign, and store
        what was taken of rates.

        `limits` names the limits (scope, name) of each lane of the plan.
        """
        wanted = sorted({limit for lane_limits in limits.values() for limit in lane_limits})
        async with self._database.transaction() as transaction:
            room = await lock(transaction, wanted, clock)
            clipped = _clip(plan, limits, room)
            allowed = {quota.lane: len(quota.slots) for quota in clipped.quotas}
            if not allowed:
                await room.store(transaction, {})
                return AssignResult([], None, False, allowed, _waits(limits, room, {}))
            rows = await transaction.fetch(_SQL["assign"], *self._arguments(clipped, limited=True))
            result = _result(rows, names, clipped)
            taken = _taken(limits, result)
            await room.store(transaction, taken)
            return replace(result, allowed=allowed, waits=_waits(limits, room, taken))

    def _arguments(self, plan: Plan, *, limited: bool) -> tuple[object, ...]:
        return (*_arguments(plan, limited=limited), self._slack_ms, lowest_id(time.time() - _RECENT_S))

    async def payloads(self, task_ids: Sequence[HexId]) -> dict[HexId, bytes]:
        """Payloads that were too large to be read with their assign."""
        rows = await self._database.fetch(_SQL["payloads"], sorted(task_ids))
        return {HexId(row["id"].hex): row["payload"] for row in rows}

    async def below_marks(
        self, marked: Sequence[tuple[LaneId, int, datetime]]
    ) -> list[tuple[LaneId, int, datetime]]:
        """(lane, rank, arrival) of the first ready task below each mark, where there is one."""
        rows = await self._database.fetch(
            _SQL["below_marks"], [m[0] for m in marked], [m[1] for m in marked], [m[2] for m in marked]
        )
        return [(LaneId(row[0]), row[1], row[2]) for row in rows]

    async def work_above(self, marked: Sequence[tuple[LaneId, int, datetime]]) -> list[tuple[LaneId, int]]:
        """The (lane, rank) pairs that have a ready task at or above their marks."""
        if not marked:
            return []
        rows = await self._database.fetch(
            _SQL["work_above"], [m[0] for m in marked], [m[1] for m in marked], [m[2] for m in marked]
        )
        return [(LaneId(row["lane"]), row["rank"]) for row in rows]

    async def lanes_with_work(self) -> list[tuple[LaneId, int]]:
        """Every (lane, rank) with a ready task."""
        rows = await self._database.fetch(_SQL["lanes_with_work"])
        return [(LaneId(row["lane"]), row["rank"]) for row in rows]


def _taken(limits: Mapping[LaneId, Sequence[LimitKey]], result: AssignResult) -> dict[LimitKey, int]:
    """How many runs were taken of each limit; what ended instead of running takes none."""
    taken: dict[LimitKey, int] = {}
    for block in result.blocks:
        for limit in limits[block.lane]:
            taken[limit] = taken.get(limit, 0) + len(block.task_ids)
    return taken


def _waits(
    limits: Mapping[LaneId, Sequence[LimitKey]], room: Room, taken: Mapping[LimitKey, int]
) -> dict[LaneId, timedelta]:
    found = {lane: room.waits(mine, taken) for lane, mine in limits.items()} if room.buckets else {}
    return {lane: wait for lane, wait in found.items() if wait is not None}


def _clip(plan: Plan, limits: Mapping[LaneId, Sequence[LimitKey]], room: Room) -> Plan:
    clipped = []
    for quota in plan.quotas:
        count = room.take(limits[quota.lane], len(quota.slots))
        if count:
            clipped.append(LaneQuota(quota.lane, quota.pairs, quota.slots[:count]))
    return Plan(plan.owner, plan.generations, plan.sequences, plan.tokens, clipped)


def _arguments(plan: Plan, *, limited: bool) -> tuple[object, ...]:
    slots = [session for quota in plan.quotas for session in quota.slots]
    sessions = sorted(set(slots))
    places = {session: place for place, session in enumerate(sessions, 1)}
    pairs = [pair for quota in plan.quotas for pair in quota.pairs]
    offsets, firsts, lasts = [], [], []
    offset = first = 0
    for quota in plan.quotas:
        offsets.append(offset)
        firsts.append(first + 1)
        offset += len(quota.slots)
        first += len(quota.pairs)
        lasts.append(first)
    return (
        sessions,
        [plan.generations[session] for session in sessions],
        plan.owner,
        [quota.lane for quota in plan.quotas],
        [len(quota.slots) for quota in plan.quotas],
        offsets,
        firsts,
        lasts,
        [rank for rank, _ in pairs],
        [mark for _, mark in pairs],
        integers([1] if len(sessions) == 1 else [*map(places.__getitem__, slots)]),
        [plan.sequences[session] for session in sessions],
        integers(plan.tokens),
        limited,
        min(INLINE_PAYLOAD_BYTES, ASSIGN_PAYLOAD_BYTES // len(slots)),
    )


def _result(rows: Sequence[Any], names: Mapping[LaneId, tuple[str, str]], plan: Plan) -> AssignResult:
    first = rows[0]
    asked = {session for quota in plan.quotas for session in quota.slots}
    found = rows if first["task_id"] is not None else []
    arrivals = arrivals_of(found)
    return AssignResult(
        blocks=blocks_of(_runnable(found), names),
        taken_at=first["taken_at"],
        refused=first["mine"] < len(asked),
        read=reads_of(arrivals),
        arrivals=arrivals,
        expired=[(TaskId(row["task_id"]), LaneId(row["lane"])) for row in found if _has_expired(row)],
    )


def _runnable(rows: Sequence[Any]) -> Sequence[Any]:
    """Without the tasks that are not stored, which ended as lost, and without those that have expired."""
    if not any(row["max_retries"] is None or _has_expired(row) for row in rows):
        return rows
    lost = [row["task_id"] for row in rows if row["max_retries"] is None]
    if lost:
        told = {"tasks": lost[:_TOLD]}
        log.error("tasks were to run that are not stored; they have ended as lost", extra=told)
    return [row for row in rows if row["max_retries"] is not None and not _has_expired(row)]


def _has_expired(row: Any) -> bool:
    left: int | None = row["expires_in_ms"]
    return left is not None and left <= 0
