"""The worker sessions that this broker owns: what each may run, what it holds, and what it is told.

This is a copy in memory, for quick decisions; each of them is checked again by the database.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from hyrex_broker.domain.errors import FlowControl, SessionTakenOver
from hyrex_broker.domain.long_work import in_portions
from hyrex_broker.domain.model import (
    BrokerId,
    CancelOrder,
    LaneId,
    Outcome,
    SessionId,
)
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.sessions.declaring import DeclaresSchedules, declare_none
from hyrex_broker.engine.sessions.resumption import Resumption, reconcile
from hyrex_broker.engine.sessions.session import (
    Introduction,
    ServedSession,
    SessionLink,
    WorkerProfile,
)
from hyrex_broker.engine.sessions.session_room import check_room
from hyrex_broker.storage.endings import EndedSession
from hyrex_broker.storage.sessions import SessionStore

LEAVE_REASON: Final = "an operator asked for it"
_SECRET_BYTES: Final = 16
MOST_NAMES: Final = 1_000_000
"""Names of tasks of all kinds of workers that are served at a time: each may keep half a kilobyte here.
Workers with the same patterns and tasks are one kind, so a fleet has few."""


def _kind(introduction: Introduction) -> object:
    """Equal for sessions that may run the same."""
    return tuple(introduction.info.queue_patterns), tuple(sorted(introduction.task_pools.items()))


class Sessions:
    """The sessions of this broker, by id, and by profile for the dispatcher."""

    def __init__(self, store: SessionStore, directory: Directory, broker: BrokerId) -> None:
        self._store = store
        self._directory = directory
        self._broker = broker
        self._profiles: dict[object, WorkerProfile] = {}
        self.by_id: dict[SessionId, ServedSession] = {}
        self.leases_by_lane: dict[LaneId, int] = {}
        """Of lanes that have a family."""
        self.on_capacity: Callable[[], None] = lambda: None
        self.tasks_elsewhere = directory.tasks_elsewhere
        self.declare_schedules: DeclaresSchedules = declare_none
        self.families = directory.families
        self.may_be_followed = directory.may_be_followed
        directory.on_new_lanes.append(self._subscribe)
        directory.on_change.append(self._look_again)
        directory.on_forgotten.append(self._forget_lanes)

    @property
    def profiles(self) -> Iterable[WorkerProfile]:
        """Every kind of session here."""
        return self._profiles.values()

    def of(self, session_id: SessionId | None) -> ServedSession | None:
        """The session, if it is served here."""
        return None if session_id is None else self.by_id.get(session_id)

    async def open(
        self, introduction: Introduction, link: SessionLink, origin: SessionId | None = None
    ) -> ServedSession:
        """Begin a new session. With an origin, its worker had one before, and nothing is declared again.
        Raises StorageUnavailable, QuotaExceeded, FlowControl."""
        check_room(self.by_id.values(), introduction.token)
        self._check_names(introduction)
        if origin is None:
            await self._directory.declare(introduction.definitions, introduction.limits, introduction.queues)
            await self.declare_schedules(introduction.schedules, introduction.covers)
        secret = secrets.token_bytes(_SECRET_BYTES)
        opened = await self._store.open(self._broker, secret, introduction.info, origin)
        session = self._join(introduction, opened.session_id, opened.generation, secret, link)
        await self._subscribe_to_all(session.profile)
        return session

    async def origin(self, session_id: SessionId, secret: bytes) -> SessionId | None:
        """The first session of a worker whose session has ended. Raises SessionSecretInvalid."""
        return await self._store.origin(session_id, secret)

    async def resume(
        self, session_id: SessionId, secret: bytes, introduction: Introduction, link: SessionLink
    ) -> Resumption:
        """Take a session over, from another broker or an earlier stream, and reconcile its leases.

        Nothing is declared again: its worker's code did that when the session began, and newer code may have
        declared other values since. It is never one session too many: its runs would be lost.
        Raises SessionEnded, SessionSecretInvalid, StorageUnavailable, FlowControl.
        """
        self._check_names(introduction)
        taken = await self._store.take_over(
            self._broker, session_id, secret, introduction.info, introduction.received_through
        )
        await self._directory.meet({lease.lane for lease in taken.leases})
        before = self.by_id.get(session_id)
        if before is not None:
            self.leave(before)
            before.link.end(SessionTakenOver("another stream has resumed this session"))
        session = self._join(introduction, session_id, taken.generation, secret, link)
        session.self_draining = taken.self_draining
        session.draining = taken.self_draining or taken.draining
        resumption = reconcile(self._directory, session, introduction, taken)
        await self._subscribe_to_all(session.profile)
        return resumption

    def _check_names(self, introduction: Introduction) -> None:
        """Raises FlowControl for one more kind of worker where many have very many names."""
        names = sum(len(profile.task_pools) for profile in self._profiles.values())
        if names + len(introduction.task_pools) > MOST_NAMES and _kind(introduction) not in self._profiles:
            raise FlowControl(
                f"the kinds of workers served here name {names} tasks, and {MOST_NAMES} is the most;"
                " connect to another broker, or give workers with the same code the same queues",
                {"limit": str(MOST_NAMES)},
            )

    def _join(
        self,
        introduction: Introduction,
        session_id: SessionId,
        generation: int,
        secret: bytes,
        link: SessionLink,
    ) -> ServedSession:
        key = _kind(introduction)
        profile = self._profiles.get(key)
        if profile is None:
            patterns = tuple(introduction.info.queue_patterns)
            profile = self._profiles[key] = WorkerProfile(patterns, introduction.task_pools, key=key)
        session = ServedSession(session_id, generation, secret, profile, dict(introduction.pools), link)
        session.by_lane = self.leases_by_lane
        session.slots.update(introduction.slots)
        session.token = introduction.token
        profile.sessions[session_id] = session
        self.by_id[session_id] = session
        return session

    async def _subscribe_to_all(self, profile: WorkerProfile) -> None:
        """Let a profile that has just come to be know of every lane that is known here."""
        if not profile.complete:
            profile.complete = True  # what is new from here on it is told
            names = self._directory.names
            async for lane in in_portions(self._directory.with_tasks(profile.task_pools)):
                if lane in names:  # else it was forgotten meanwhile
                    profile.subscribe({lane: names[lane]})
        self.on_capacity()

    def leave(self, session: ServedSession) -> None:
        """Remove a session whose stream has ended, or that another broker owns."""
        session.draining = True
        session.count_no_more()
        if self.by_id.get(session.session_id) is session:
            del self.by_id[session.session_id]
        profile = session.profile
        if profile.sessions.get(session.session_id) is session:
            del profile.sessions[session.session_id]
        if not profile.sessions and self._profiles.get(profile.key) is profile:
            del self._profiles[profile.key]

    async def end(self, session_id: SessionId, secret: bytes, outcome: Outcome, reason: str) -> EndedSession:
        """End a session for good; its leases return. Raises SessionEnded, SessionSecretInvalid."""
        session = self.by_id.get(session_id)
        if session is None:
            return await self._store.end(session_id, secret, outcome, reason)
        session.ending = True
        try:
            ended = await self._store.end(session_id, secret, outcome, reason)
        except BaseException:
            session.ending = False
            raise
        self.leave(session)
        return ended

    def set_capacity(
        self, session: ServedSession, pools: Mapping[str, int], slots: Mapping[str, int]
    ) -> None:
        """Set the capacity that a worker announced, in absolute numbers. A pool that is not in `slots` has as
        many slots as leases; one that pauses keeps the slots that it had."""
        session.capacity.update(pools)
        for pool, maximum in pools.items():
            if maximum > 0:
                session.slots.pop(pool, None)
        session.slots.update(slots)
        self.on_capacity()

    def drain(self, session_id: SessionId) -> None:
        """Ask the worker to finish and end, for an operator."""
        session = self.by_id.get(session_id)
        if session is not None and not session.draining:
            session.draining = True
            session.link.push_leave(LEAVE_REASON)

    def drain_itself(self, session: ServedSession) -> None:
        """Note that the worker wants no more work; stored with its next heartbeat, for a later resumption."""
        session.draining = session.self_draining = True

    def drain_all(self, deadline_s: float, jitter_s: float) -> None:
        """Have all workers reconnect to other brokers, with the leases they hold: this broker stops."""
        for session in self.by_id.values():
            session.draining = True
            session.link.push_broker_drain(deadline_s, jitter_s)

    def push_cancels(self, cancels: Iterable[CancelOrder]) -> list[SessionId]:
        """Push cancels to sessions here; return the sessions that are elsewhere."""
        elsewhere = []
        for cancel in cancels:
            session = self.by_id.get(cancel.session_id)
            if session is None:
                elsewhere.append(cancel.session_id)
            else:
                session.link.push_cancels([cancel])
        return elsewhere

    def _look_again(self) -> None:
        self.on_capacity()

    def _forget_lanes(self, lanes: Collection[LaneId]) -> None:
        for profile in self._profiles.values():
            for lane in lanes:
                profile.lanes.pop(lane, None)

    def _subscribe(self, lanes: Mapping[LaneId, tuple[str, str]]) -> None:
        for profile in self._profiles.values():
            profile.subscribe(lanes)
        self.on_capacity()
