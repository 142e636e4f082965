"""Assigns: moves the best ready tasks of some lanes to sessions, in one statement."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.ids import HexId, lowest_id
from hyrex_broker.domain.model import BrokerId, LaneId, SessionId, TaskId, Token
from hyrex_broker.storage.assigned import arrivals_of, blocks_of, reads_of
from hyrex_broker.storage.columns import integers
from hyrex_broker.storage.pool import Database, Transaction
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
        limits: Mapping[LaneId, Sequence[tuple[str, str]]],
    ) -> AssignResult:
        """Assign from lanes with limits: lock the limits, count the leases, clip the quotas, assign.

        `limits` names the limits (scope, name) of each lane of the plan. The count is a statement of its own,
        since in the locking statement it would not see what was committed meanwhile (rule 13).
        """
        wanted = sorted({limit for lane_limits in limits.values() for limit in lane_limits})
        async with self._database.transaction() as transaction:
            rows = await transaction.fetch(
                _SQL["lock_limits"], [w[0] for w in wanted], [w[1] for w in wanted]
            )
            room = await _room(transaction, {(r["scope"], r["name"]): r["maximum"] for r in rows})
            clipped = _clip(plan, limits, room)
            allowed = {quota.lane: len(quota.slots) for quota in clipped.quotas}
            if not allowed:
                return AssignResult([], None, False, allowed)
            rows = await transaction.fetch(_SQL["assign"], *self._arguments(clipped, limited=True))
            return replace(_result(rows, names, clipped), allowed=allowed)

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


async def _room(
    transaction: Transaction, maxima: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    rows = await transaction.fetch(
        _SQL["count_leases"], [scope for scope, _ in maxima], [name for _, name in maxima]
    )
    return {(row["scope"], row["name"]): maxima[row["scope"], row["name"]] - row["held"] for row in rows}


def _clip(
    plan: Plan, limits: Mapping[LaneId, Sequence[tuple[str, str]]], room: dict[tuple[str, str], int]
) -> Plan:
    clipped = []
    for quota in plan.quotas:
        # A limit that is gone since the plan was made does not bind.
        mine = [limit for limit in limits[quota.lane] if limit in room]
        count = min([len(quota.slots), *(max(room[limit], 0) for limit in mine)])
        for limit in mine:
            room[limit] -= count
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
