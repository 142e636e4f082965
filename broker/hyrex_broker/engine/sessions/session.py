"""One worker session: its Hello, what it may run, what it holds, and the stream that serves it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

from hyrex.runtime import patterns as queue_patterns
from hyrex_broker.domain import ids
from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.errors import BrokerError
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import (
    CancelOrder,
    LaneId,
    LeaseRef,
    Outcome,
    RunEnd,
    SessionId,
    TaskId,
    Token,
)
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.domain.schedules import ScheduleDefinition
from hyrex_broker.storage.lanes import Definition
from hyrex_broker.storage.sessions import SessionInfo


class SessionLink(Protocol):
    """The stream that serves a session now. No method waits; each may be called after its end."""

    @property
    def backlogged(self) -> bool:
        """Return True if so much is unsent that nothing should be added."""
        ...

    @property
    def runs_written(self) -> int:
        """How many frames with runs its transport has taken."""
        ...

    def sizes(self) -> dict[str, int]:
        """What waits to be written, for a report of this process (SIGUSR1)."""
        ...

    def push_assignments(self, before: int, sequence: int, blocks: Sequence[AssignedBlock]) -> None:
        """Send runs; `sequence` is what their last frame is the receipt for, `before` the other frames."""

    def push_heartbeat_ack(
        self, sequence: int, revoked: Sequence[LeaseRef], cancels: Sequence[CancelOrder]
    ) -> None:
        """Acknowledge a heartbeat."""

    def push_cancels(self, cancels: Sequence[CancelOrder]) -> None:
        """Ask for runs to stop."""

    def push_leave(self, reason: str) -> None:
        """Ask the worker to finish and end."""

    def push_broker_drain(self, deadline_s: float, jitter_s: float) -> None:
        """Tell the worker to reconnect elsewhere."""

    def end(self, error: BrokerError) -> None:
        """End the stream with an error."""


def slots_in_all(capacity: Mapping[str, int], slots: Mapping[str, int]) -> int:
    """How many runs a worker executes at once, over all pools; 0 where it does not say so of each."""
    return sum(slots.values()) if slots.keys() >= capacity.keys() else 0


def orphaned(task_id: TaskId, token: Token, session_id: SessionId, elapsed_us: int | None = None) -> RunEnd:
    """Conclude that a lease was received and its worker does not hold it any more: its run is lost."""
    missing = "its worker does not hold it any more"
    return RunEnd(task_id, token, session_id, Outcome.LOST, elapsed_us, reason=missing)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a Hello says, validated."""

    info: SessionInfo
    pools: Mapping[str, int]
    task_pools: Mapping[str, str]
    definitions: list[Definition]
    limits: list[DeclaredLimit]
    queues: list[str]
    held: list[LeaseRef]
    received_through: int
    slots: Mapping[str, int] = field(default_factory=dict)
    covers: Callable[[str], bool] | None = None
    """Tells the queues that the worker's token is for; None: all."""
    token: Hashable = None
    """Tells the tokens apart; None: workers are not told apart."""
    schedules: Sequence[ScheduleDefinition] = ()
    """What the worker's code declares."""


@dataclass(slots=True)
class WorkerProfile:
    """What sessions with the same patterns and functions may run: lane -> pool, computed once for all."""

    patterns: tuple[str, ...]
    task_pools: Mapping[str, str]
    lanes: dict[LaneId, str] = field(default_factory=dict)
    sessions: dict[SessionId, "ServedSession"] = field(default_factory=dict)
    key: object = None
    complete: bool = False
    """True if the lanes that were known before it have been added."""
    _serves: Callable[[str], bool] = field(init=False)

    def __post_init__(self) -> None:
        self._serves = queue_patterns.known(self.patterns)

    def subscribe(self, names: Mapping[LaneId, tuple[str, str]]) -> None:
        """Add the lanes that it may run: once of all lanes, later of new ones. Lanes never change."""
        pools, serves = self.task_pools, self._serves
        self.lanes.update(
            (lane, pools[name]) for lane, (queue, name) in names.items() if name in pools and serves(queue)
        )


@dataclass(slots=True)
class Reading:
    """Whether a worker reads what it is sent; its heartbeats only show that it writes."""

    mark: tuple[int, int] | None = None
    """The lowest sequence without a receipt, and how many frames had been written; None: all is received."""
    since: float = 0.0
    """When `mark` became so, or was first seen after a pause."""
    beat_at: float = 0.0

    def is_silent(self, mark: tuple[int, int] | None, now: float, patience_s: float) -> bool:
        """Return True if `mark` has not changed for so long, although heartbeats kept coming."""
        paused, self.beat_at = now - self.beat_at > patience_s / 2, now
        if mark != self.mark or paused:
            self.mark, self.since = mark, now
        return mark is not None and now - self.since > patience_s


@dataclass(slots=True, eq=False)
class ServedSession:
    """One session with what it holds."""

    session_id: SessionId
    generation: int
    secret: bytes
    profile: WorkerProfile
    capacity: dict[str, int]
    link: SessionLink
    sequence: int = 0
    received_through: int = 0
    draining: bool = False
    """Nothing more is assigned to it, for any reason."""
    self_draining: bool = False
    """Its worker asked for no more work."""
    ending: bool = False
    """Its end is being stored, or is stored: whoever asked for it says how its stream ends."""
    leases: dict[Token, tuple[HexId, int, str]] = field(default_factory=dict)
    """token -> (task, assignment sequence, pool)"""
    held: dict[str, int] = field(default_factory=dict)
    """pool -> leases of that pool"""
    reserved: dict[str, int] = field(default_factory=dict)
    """pool -> slots reserved for statements in flight"""
    reading: Reading = field(default_factory=Reading)
    """whether it reads, by its receipts"""
    orphans: set[Token] = field(default_factory=set)
    """leases that are being taken back, because its worker does not hold them any more"""
    slots: dict[str, int] = field(default_factory=dict)
    """pool -> runs that it executes at once, where it says so"""
    unsent: set[int] = field(default_factory=set)
    """sequences whose runs are not sent yet: statements in flight, or of unknown outcome"""
    trailing: set[int] = field(default_factory=set)
    """sequences some of whose runs wait for their payloads"""
    token: Hashable = None
    """the same for workers with the same token"""
    lanes: dict[Token, LaneId] = field(default_factory=dict)
    """the lanes of leases that are counted by lane"""
    by_lane: dict[LaneId, int] = field(default_factory=dict)
    """how many such leases each lane has, in all sessions here"""

    def free(self, pool: str) -> int:
        """How many more leases it would take."""
        if self.draining or self.link.backlogged:
            return 0
        return self.capacity.get(pool, 0) - self.held.get(pool, 0) - self.reserved.get(pool, 0)

    def beyond_slots(self, pool: str) -> int:
        """How many of these (`free`) would wait in the worker for a slot."""
        slots = self.slots.get(pool)
        if slots is None:
            return 0
        taken = self.held.get(pool, 0) + self.reserved.get(pool, 0)
        return max(0, self.capacity.get(pool, 0) - max(slots, taken))

    def reserve(self, pool: str, count: int) -> None:
        """Reserve slots for a statement in flight; a negative count gives them back."""
        self.reserved[pool] = self.reserved.get(pool, 0) + count

    def next_sequence(self) -> int:
        """The sequence of a new statement; it stays in `unsent` until its runs are sent."""
        self.sequence += 1
        self.unsent.add(self.sequence)
        return self.sequence

    @property
    def receipt(self) -> int:
        """The sequence up to which all runs were sent. Later statements may end earlier: a receipt for runs
        of one that is still in flight would make it seem that the worker lost them."""
        return min(self.unsent | self.trailing, default=self.sequence + 1) - 1

    def push(self, blocks: Sequence[AssignedBlock], last_of: int | None = None) -> None:
        """Send runs. `last_of`: the statement of which they are the last; nothing of it is unsent then.

        Later statements may have been sent before, and only wait for this one: the receipt for its last frame
        is for them too, that of its other frames must be for none of them.
        """
        before = self.receipt
        if last_of is not None:
            self.unsent.discard(last_of)
            self.trailing.discard(last_of)
        if blocks:
            self.link.push_assignments(before, self.receipt, blocks)

    def add(self, token: Token, task_id: TaskId, sequence: int, pool: str) -> None:
        """Add a lease."""
        self.add_all([token], [ids.hex_id(task_id)], sequence, pool)

    def add_all(self, tokens: Sequence[Token], task_ids: Sequence[HexId], sequence: int, pool: str) -> None:
        """Add leases of one statement and pool."""
        self.leases.update(zip(tokens, zip(task_ids, repeat(sequence), repeat(pool)), strict=True))
        self.held[pool] = self.held.get(pool, 0) + len(tokens)

    def count(self, lane: LaneId, tokens: Sequence[Token]) -> None:
        """Count leases of this lane, as long as the session has them."""
        self.lanes.update(dict.fromkeys(tokens, lane))
        self.by_lane[lane] = self.by_lane.get(lane, 0) + len(tokens)

    def count_no_more(self, tokens: Sequence[Token] | None = None) -> None:
        """Leases (None: all) have ended, or are served elsewhere. Those not counted are passed over."""
        for token in list(self.lanes) if tokens is None else tokens:
            lane = self.lanes.pop(token, None)
            if lane is not None:
                self.by_lane[lane] -= 1

    def holds(self, task_id: HexId, token: Token) -> bool:
        """Return True if this is a lease of the session."""
        found = self.leases.get(token)
        return found is not None and found[0] == task_id

    def remove_all(self, tokens: Sequence[Token]) -> None:
        """It holds these leases less; those that it does not hold are passed over."""
        self.orphans.difference_update(tokens)
        if self.lanes:
            self.count_no_more(tokens)
        found = [*map(self.leases.pop, tokens, repeat(None))]
        if len(self.held) == 1:
            (pool,) = self.held
            self.held[pool] -= len(found) - found.count(None)
            return
        for lease in found:
            if lease is not None:
                self.held[lease[2]] -= 1

    def remove(self, token: Token) -> None:
        """Remove a lease."""
        found = self.leases.pop(token, None)
        if found is not None:
            self.held[found[2]] -= 1
            self.orphans.discard(token)
            if self.lanes:
                self.count_no_more([token])
