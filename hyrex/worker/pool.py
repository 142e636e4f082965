"""A pool of like children: keeps them alive, feeds them, and tells how their runs ended.

Sync and async runs have a pool each. The pool never decides what a run's end means to the
session; it hands every ending to `ended`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hyrex.worker.backoff import backoff_s
from hyrex.worker.burial import bury
from hyrex.worker.capacity import Pace
from hyrex.worker.feeder import shares, victim
from hyrex.worker.frames import (
    Ended,
    FromChild,
    Imported,
    Ready,
    Resumed,
    Returned,
    Stop,
    Unusable,
    WaitAnswer,
    Waiting,
)
from hyrex.worker.lease import Held
from hyrex.worker.lending import Lending
from hyrex.worker.memory import TrustCell
from hyrex.worker.outcome import Ending, StopCause
from hyrex.worker.platform import exit_reason
from hyrex.worker.process import ChildEvents, ChildPlan, ChildProcess, ChildState

log = logging.getLogger("hyrex.worker")

_LONGEST_BACKOFF_S = 10.0


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """How a pool is made. `prefetch` None adapts; 0 for the maxima means none."""

    name: str
    asynchronous: bool
    children: int
    slots: int  # of each child
    prefetch: int | None = None
    max_tasks: int = 0
    max_memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class PoolEvents:
    """Whom a pool tells."""

    ended: Callable[[Held, Ending], None]
    changed: Callable[[], None]  # its maximum may be another now


class Pool:
    """Children of one kind, and the runs that wait for one of them."""

    def __init__(self, plan: PoolPlan, child_plan: ChildPlan, trust: TrustCell, events: PoolEvents) -> None:
        """Nothing is started before `maintain`."""
        self.plan = plan
        self.children: list[ChildProcess] = []
        self.backlog: deque[Held] = deque()
        self.alone: deque[Held] = deque()  # runs that must have a process for themselves
        self.pace = Pace()
        self.lending = Lending(plan.children, plan.slots)
        self.closing = False
        self._child_plan = child_plan
        self._child_events = ChildEvents(self._on_message, self._on_death)
        self._trust = trust
        self._events = events
        self._settling = False
        self._failures = 0
        self._not_before = 0.0

    # Children.

    def adopt(self, child: ChildProcess) -> None:
        """Take in a child that was started elsewhere and has imported the target."""
        child.events = self._child_events
        self.children.append(child)
        child.begin(asynchronous=self.plan.asynchronous, slots=self.plan.slots)

    def maintain(self) -> None:
        """Start the children that are missing and end those that are worn."""
        if self.closing:
            return
        live = [c for c in self.children if c.state in (ChildState.STARTING, ChildState.READY)]
        for child in live:
            self._judge_wear(child)
        fresh = [child for child in live if not child.worn]
        wanted = self.plan.children + self.lending.kept() + (self.plan.asynchronous and bool(self.alone))
        for _ in range(wanted - len(fresh)):
            if time.monotonic() < self._not_before:
                break
            self.children.append(ChildProcess(self._child_plan, self._child_events))
        ready = [child for child in live if child.state is ChildState.READY]
        for child in ready:
            if child.worn and len(ready) > wanted:
                child.exhausted = True
            surplus = len(fresh) > wanted and child is fresh[-1] and not child.exclusive
            if not child.given and (child.exhausted or surplus):
                child.retire()

    def active(self) -> list[ChildProcess]:
        """Children that take runs, oldest first, no more than there are slots for."""
        ready = [c for c in self.children if c.state is ChildState.READY]
        busy = sum(1 for child in ready if child.exhausted and child.given)
        usable = [child for child in ready if not child.exhausted]
        return usable[: max(0, self.plan.children + self.lending.substitutes - busy)]

    def maximum(self) -> int:
        """Leases that the pool can do with now."""
        return sum(
            max(1, len(child.given)) if child.exclusive else self._limit(child) for child in self.active()
        )

    def slots(self) -> int:
        """Runs that the pool executes at once when all its children are there."""
        return self.plan.children * self.plan.slots

    def _judge_wear(self, child: ChildProcess) -> None:
        most = self.plan.max_tasks
        if most and child.fed * 2 >= most:
            child.worn = True  # its replacement is started at half-time
            child.exhausted = child.exhausted or child.fed >= most

    def _limit(self, child: ChildProcess) -> int:
        if child.slow or child.lent:
            return child.slots
        if self.plan.prefetch is None:
            return child.slots + self.pace.ahead(child.slots)
        return child.slots * (1 + self.plan.prefetch)

    # Runs.

    def accept(self, held: Held) -> None:
        """Take a run; call `feed` after the last of a batch."""
        (self.alone if held.run.alone else self.backlog).append(held)

    def feed(self, *, patient: bool = True) -> None:
        """Give waiting runs to children, as far as leases are trusted and there is room."""
        if self.closing or not self._trust.trusted():
            return
        self._feed_alone()
        children = [child for child in self.active() if not child.exclusive]
        for child, portion in shares(children, len(self.backlog), self._room_limit, self.pace.fresh_run_s):
            child.give([self.backlog.popleft() for _ in range(portion)])
        if not self.backlog and (loser := victim(children, self.pace.run_s, patient)):
            waiting = loser.unstarted()
            if waiting:
                loser.take_back(waiting[len(waiting) // 2 :])

    def _room_limit(self, child: ChildProcess) -> int:
        limit = self._limit(child)
        if self.plan.max_tasks:
            limit = min(limit, len(child.given) + self.plan.max_tasks - child.fed)
        return limit

    def _feed_alone(self) -> None:
        while self.alone:
            candidates = [c for c in self.children if c.state is ChildState.READY and not c.exhausted]
            idle = [child for child in candidates if not child.given]
            if idle:
                chosen = next((child for child in idle if child.exclusive), idle[-1])
                chosen.exclusive = True
                chosen.give([self.alone.popleft()])
                continue
            if candidates and not self.plan.asynchronous and not any(c.exclusive for c in candidates):
                reserved = min(candidates, key=lambda child: len(child.given))
                reserved.exclusive = True
                self._recall_from(reserved)
            return
        # Whatever became of the run that a child was reserved for: nothing waits for it any more.
        for child in self.children:
            child.exclusive = child.exclusive and any(held.run.alone for held in child.given.values())

    def recall(self) -> None:
        """Ask every child for the runs that it has not started."""
        for child in self.children:
            self._recall_from(child)

    def _recall_from(self, child: ChildProcess) -> None:
        waiting = child.unstarted() if child.given and child.state is not ChildState.DEAD else []
        if waiting and not child.taking_back:
            child.take_back(waiting)

    def stop(self, held: Held, cause: StopCause, reason: str) -> bool:
        """Stop a run; False if it waited here and is simply forgotten."""
        if held.child is None:
            for waiting in (self.backlog, self.alone):
                if held in waiting:
                    waiting.remove(held)
            return False
        if held.stop is None:
            held.stop, held.stop_reason, held.stop_at = cause, reason, time.monotonic()
            held.child.stop(Stop(held.run.token, cause, reason))
        return True

    def kill_running(self) -> None:
        """Kill the children that run something."""
        for child in self.children:
            if child.given and child.ledger.running():
                child.kill()

    def take_waiting(self, older_than_s: float) -> list[Held]:
        """Take the runs out that have waited here for so long.

        One that must be alone has more patience: a child may have to be emptied or started for it. With
        the grace it stays below what the broker adds to a timeout (15 s and a lease, from the assignment).
        """
        now = time.monotonic()
        taken: list[Held] = []
        for waiting, patience_s in ((self.backlog, older_than_s), (self.alone, 8 * older_than_s)):
            taken += [held for held in waiting if now - held.waiting_since >= patience_s]
            remaining = [held for held in waiting if now - held.waiting_since < patience_s]
            waiting.clear()
            waiting.extend(remaining)
        return taken

    # News of children.

    def _on_message(self, child: ChildProcess, message: FromChild) -> None:
        match message:
            case Ended(endings):
                self._on_ended(child, endings)
            case Returned(tokens, answer):
                child.taking_back = child.taking_back and not answer
                self.pace.doubt()
                self._requeue(held for token in tokens if (held := child.given.pop(token, None)))
            case Waiting(request):
                child.link.send(WaitAnswer(request, self.lending.ask(child, request)))
                self._recall_from(child)
            case Resumed(request):
                self.lending.resume(child, request)
            case Imported():
                child.begin(asynchronous=self.plan.asynchronous, slots=self.plan.slots)
                return
            case Ready():
                self._failures, child.was_ready = 0, True
                if child.retiring:
                    child.retire()  # said while it could not hear
                else:
                    child.state = ChildState.READY
            case Unusable(text):
                log.error("a new child cannot use the app: %s", text)
                return
        self._settle_soon()

    def _on_ended(self, child: ChildProcess, endings: list[Ending]) -> None:
        self.pace.observe(endings)
        for ending in endings:
            held = child.given.pop(ending.token, None)
            if held is not None:
                self._events.ended(held, ending)
        if not child.given:
            child.exclusive = False

    def _on_death(self, child: ChildProcess, status: int) -> None:
        self.children.remove(child)
        expected = self.closing or (child.retiring and not child.given and status == 0)
        if not expected:
            log.warning("child %d ended with %s", child.pid, exit_reason(status))
            if not child.was_ready:
                self._failures += 1
                delay = backoff_s(0.25, self._failures, _LONGEST_BACKOFF_S)
                self._not_before = time.monotonic() + delay
        self.lending.bury(child)
        started, unstarted = bury(child, status)
        for held, ending in started:
            self._events.ended(held, ending)
        self._requeue(unstarted)
        self._settle_soon()

    def _requeue(self, runs: Iterable[Held]) -> None:
        now = time.monotonic()
        for held in reversed(list(runs)):
            held.child, held.waiting_since = None, now
            (self.alone if held.run.alone else self.backlog).appendleft(held)

    def _settle_soon(self) -> None:
        """Act once on all the news of this turn of the loop."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        self.maintain()
        self.feed()
        self._events.changed()
