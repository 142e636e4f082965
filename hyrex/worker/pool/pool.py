"""A pool of children of one kind: keeps them alive, gives them runs, and says how these ended.

Sync and async runs have a pool each. The pool passes every ending to `PoolEvents.ended` and does not decide
what it means to the session.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from itertools import repeat
from typing import Final

from hyrex.worker.pool.child_death import take_runs_of_dead, what_ran
from hyrex.worker.pool.child_process import ChildEvents, ChildPlan, ChildProcess, ChildState
from hyrex.worker.pool.distribution import overfull, shares
from hyrex.worker.pool.first_child import AppUnusable
from hyrex.worker.pool.held_block import Held, HeldBlock, parted
from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.pool.pace import Pace
from hyrex.worker.pool.pool_plan import PoolEvents, PoolPlan
from hyrex.worker.pool.slot_lending import AsyncLending, Lending
from hyrex.worker.pool.waiting_runs import WaitingRuns
from hyrex.worker.shared.backoff import backoff_s
from hyrex.worker.shared.child_messages import (
    Ended,
    Finished,
    FromChild,
    Imported,
    Progressed,
    Ready,
    Resumed,
    Returned,
    Settled,
    Stop,
    Unusable,
    WaitAnswer,
    Waiting,
)
from hyrex.worker.shared.memory import TrustCell
from hyrex.worker.shared.outcome import Ending, StopCause, TimedOut
from hyrex.worker.shared.platform import exit_reason
from hyrex.worker.shared.runs import RunBlock

log = logging.getLogger("hyrex.worker")

_LONGEST_BACKOFF_S: Final = 10.0


class Pool:
    """Children of one kind, and the runs that wait for one of them."""

    def __init__(self, plan: PoolPlan, child_plan: ChildPlan, trust: TrustCell, events: PoolEvents) -> None:
        """Nothing is started before `maintain`."""
        self.plan = plan
        self.children: list[ChildProcess] = []
        self.waiting = WaitingRuns()
        self.pace = Pace()
        self.lending = AsyncLending() if plan.asynchronous else Lending(plan.children, plan.slots)
        self.closing = False
        self.started = self.died = 0  # children: all, and those that ended unasked
        # Done when a first child is ready. Raises: AppUnusable if it cannot be.
        self.usable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._child_plan = child_plan
        self._child_events = ChildEvents(self._on_message, self._on_death)
        self._trust = trust
        self._events = events
        self._settling = False
        self._failures = 0
        self._not_before = 0.0

    # Children.

    def adopt(self, child: ChildProcess) -> None:
        """Take over a child that was started elsewhere and has imported the target."""
        self.started += 1
        child.events = self._child_events
        self.children.append(child)
        child.begin(asynchronous=self.plan.asynchronous, slots=self.plan.slots)

    def maintain(self) -> None:
        """Start the children that are missing and end those that are worn."""
        if self.closing:
            return
        live = [c for c in self.children if c.state in (ChildState.STARTING, ChildState.READY)]
        for child in live:
            self._check_wear(child)
        fresh = [child for child in live if not child.worn]
        wanted = (
            self.plan.children + self.lending.kept() + (self.plan.asynchronous and bool(self.waiting.alone))
        )
        for _ in range(wanted - len(fresh)):
            if time.monotonic() < self._not_before:
                break
            self.started += 1
            self.children.append(ChildProcess(self._child_plan, self._child_events))
        ready = [child for child in live if child.state is ChildState.READY]
        for child in ready:
            if child.worn and len(ready) > wanted:
                child.exhausted = True
            surplus = len(fresh) > wanted and child is fresh[-1] and not child.exclusive
            if not child.given and (child.exhausted or surplus):
                child.retire()

    def active(self) -> list[ChildProcess]:
        """The children that take runs, oldest first; no more than the pool may have busy at once."""
        ready = [c for c in self.children if c.state is ChildState.READY]
        busy = sum(1 for child in ready if child.exhausted and child.given)
        usable = [child for child in ready if not child.exhausted]
        return usable[: max(0, self.plan.children + self.lending.substitutes - busy)]

    def maximum(self) -> int:
        """How many leases the pool wants to hold now, with those of children that take no more."""
        active = self.active()
        held = sum(len(child.given) for child in self.children if child not in active)
        return held + sum(max(1, len(c.given)) if c.exclusive else self._limit(c) for c in active)

    def at_once(self) -> int:
        """How many of these leases can run at once; the rest would wait for a slot."""
        active = self.active()
        held = sum(len(child.given) for child in self.children if child not in active)
        return held + sum(1 if child.exclusive else child.slots for child in active)

    def is_stuck(self) -> bool:
        """Return True if no child will take a run soon, because every slot is busy with a long one."""
        active = self.active()
        return bool(active) and all(child.slow for child in active)

    def slots(self) -> int:
        """How many runs the pool executes at once when all its children are ready."""
        return self.plan.children * self.plan.slots

    def _check_wear(self, child: ChildProcess) -> None:
        most = self.plan.max_tasks
        if most and child.fed * 2 >= most:
            child.worn = True  # its replacement is started when it has run half of its tasks
            child.exhausted = child.exhausted or child.fed >= most

    def _limit(self, child: ChildProcess) -> int:
        if child.slow or (child.lent and not self.plan.asynchronous):
            return child.slots
        return child.slots + self.pace.ahead(child.slots, self.plan.prefetch)

    # Runs.

    def accept(self, block: RunBlock) -> None:
        """Take runs; call `feed` after the last of a batch."""
        self.waiting.add(HeldBlock(block, self.plan.name))

    def count(self) -> int:
        """How many runs it has."""
        return len(self.waiting) + sum(len(child.given) for child in self.children)

    def lease(self, token: int) -> HeldLease | None:
        """A run that it has, with a lease of its own from now on."""
        for child in self.children:
            if token in child.given:
                return child.lease(token)
        return self.waiting.lease(token)

    def leases(self) -> list[HeldLease]:
        """All runs that it has, each with a lease of its own from now on."""
        given = [child.lease(token) for child in self.children for token in list(child.given)]
        return [held for held in given if held is not None] + self.waiting.leases()

    def feed(self, *, patient: bool = True) -> None:
        """Give waiting runs to children, as far as leases are trusted and there is room."""
        if self.closing or not self._trust.trusted():
            return
        self._feed_alone()
        children = [child for child in self.active() if not child.exclusive]
        for child, portion in shares(children, self.waiting.backlog, self._room_limit, self.pace.fresh_run_s):
            child.give(self.waiting.take_first(portion))
        if not self.waiting.backlog and (giver := overfull(children, self.pace.run_s, patient)):
            waiting = giver.unstarted()
            if waiting:
                giver.take_back(waiting[len(waiting) // 2 :])

    def _room_limit(self, child: ChildProcess) -> int:
        limit = self._limit(child)
        if self.plan.max_tasks:
            limit = min(limit, len(child.given) + self.plan.max_tasks - child.fed)
        return limit

    def _feed_alone(self) -> None:
        while self.waiting.alone:
            candidates = [c for c in self.children if c.state is ChildState.READY and not c.exhausted]
            idle = [child for child in candidates if not child.given]
            if idle:
                chosen = next((child for child in idle if child.exclusive), idle[-1])
                chosen.exclusive = True
                chosen.give([self.waiting.alone.popleft()])
                continue
            if candidates and not self.plan.asynchronous and not any(c.exclusive for c in candidates):
                reserved = min(candidates, key=lambda child: len(child.given))
                reserved.exclusive = True
                self._recall_from(reserved)
            return
        # No run waits to run alone any more, so children reserved for one are free again.
        for child in self.children:
            child.exclusive = child.exclusive and any(held.alone for held in child.given.values())

    def recall(self) -> None:
        """Ask every child for the runs that it has not started."""
        for child in self.children:
            self._recall_from(child)

    def _recall_from(self, child: ChildProcess) -> None:
        if child.taking_back or not child.given or child.state is ChildState.DEAD:
            return
        if waiting := child.unstarted():
            child.take_back(waiting)

    def stop(self, held: HeldLease, cause: StopCause, reason: str) -> bool:
        """Stop a run. Return False if it only waited here; it is forgotten, and nothing will report it."""
        if held.child is None:
            self.waiting.forget(held)
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

    # Messages and deaths of children.

    def _on_message(self, child: ChildProcess, message: FromChild) -> None:
        match message:
            case Finished():
                self._on_finished(child, message)
            case Ended(endings):
                self._on_ended(child, endings)
            case Settled(ending):
                if (held := child.lease(ending.token)) is not None and held.settled is None:
                    held.settled = ending
            case Returned(tokens, answer):
                child.taking_back = child.taking_back and not answer
                self.pace.mark_outdated()
                self._put_back(child.take_out(tokens))
            case Waiting(request):
                child.socket.send(WaitAnswer(request, self.lending.ask(child, request)))
                self._recall_from(child)
            case Progressed():
                if message.token in child.given:
                    self._events.progressed(message)
                return
            case Resumed(request):
                self.lending.resume(child, request)
            case Imported():
                child.begin(asynchronous=self.plan.asynchronous, slots=self.plan.slots)
                return
            case Ready():
                self._failures, child.was_ready = 0, True
                if not self.usable.done():
                    self.usable.set_result(None)
                if child.retiring:
                    child.retire()  # again: it could not take the first Finish while it was starting
                else:
                    child.state = ChildState.READY
            case Unusable(text):
                if self.usable.done():
                    log.error("a new child cannot use the app: %s", text)
                else:
                    self.usable.set_exception(AppUnusable(f"cannot use {self._child_plan.target}: {text}"))
                return
        self._settle_soon()

    def _on_finished(self, child: ChildProcess, finished: Finished) -> None:
        self.pace.learn(sum(finished.elapsed_us) / 1e6, len(finished.tokens))
        held = [*map(child.given.pop, finished.tokens, repeat(None))]
        if any(type(each) is not HeldBlock for each in held):
            finished, leases = parted(finished, held)
            for lease, ending in leases:
                self._events.ended(lease, ending)
        if finished.tokens:
            self._events.finished(finished)
        if not child.given:
            child.exclusive = False

    def _on_ended(self, child: ChildProcess, endings: list[Ending]) -> None:
        self.pace.observe(endings)
        for ending in endings:
            held = child.lease(ending.token)
            if held is not None:
                del child.given[ending.token]
                self._events.ended(held, ending)
        if not child.given:
            child.exclusive = False

    def _on_death(self, child: ChildProcess, status: int) -> None:
        self.children.remove(child)
        expected = self.closing or (child.retiring and not child.given and status == 0)
        if not expected and not child.was_ready:
            self._failures += 1
            delay = backoff_s(0.25, self._failures, _LONGEST_BACKOFF_S)
            self._not_before = time.monotonic() + delay
            if status >= 0 and not self.usable.done():  # a signal may have come from outside
                text = f"a new process for {self._child_plan.target} ended with {exit_reason(status)}"
                self.usable.set_exception(AppUnusable(text))
        self.lending.child_died(child)
        started, unstarted = take_runs_of_dead(child, status)
        if not expected:
            self.died += 1
            log.warning("child %d ended with %s%s", child.pid, exit_reason(status), what_ran(started))
        for held, ending in started:
            self._end_with_child(held, ending)
        self._put_back(unstarted)
        self._settle_soon()

    def _put_back(self, unstarted: Iterable[Held]) -> None:
        """Let runs wait again that a child has not begun with; end those that it was asked to stop."""
        waiting: list[Held] = []
        for held in unstarted:
            if isinstance(held, HeldLease) and (ending := held.ending_unbegun()) is not None:
                self._events.ended(held, ending)
            else:
                waiting.append(held)
        self.waiting.put_back(waiting)

    def _end_with_child(self, held: HeldLease, ending: Ending) -> None:
        """End a run whose child died. After a timeout, another child calls its error handler first."""
        handled = held.run.name in self.plan.handled and held.settled is None and not held.revoked
        if handled and isinstance(ending.outcome, TimedOut) and not self.closing:
            held.leave_to_handler(ending, ending.outcome.error)
            self._put_back([held])
        else:
            self._events.ended(held, ending)

    def _settle_soon(self) -> None:
        """Act once on all messages and deaths of this iteration of the loop."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        self.maintain()
        self.feed()
        self._events.changed()
