"""Cancels and retries that people ask for. A cancel is durable before it is answered (rule 5)."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from hyrex_broker.domain.model import (
    CancelOrder,
    CancelOutcome,
    DismissOutcome,
    LaneId,
    RetryOutcome,
    SessionId,
    TaskId,
)
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.storage.cancel import CancelStore, FoundByCancel, Requeued

_RETRY_ROUNDS: Final = 5


async def _nowhere(task_ids: Sequence[TaskId]) -> set[TaskId]:
    return set()


class Cancels:
    """Cancels waiting tasks, flags running ones and tells their workers; reopens ended tasks."""

    def __init__(self, store: CancelStore, sessions: Sessions, dispatcher: Dispatcher) -> None:
        self._store = store
        self._sessions = sessions
        self._dispatcher = dispatcher
        self.on_change: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        self.on_elsewhere: Callable[[Iterable[SessionId]], None] = lambda sessions: None
        self.from_outbox: Callable[[Sequence[TaskId]], Awaitable[set[TaskId]]] = _nowhere
        """Makes tasks of what is in the outbox; returns what it has removed instead."""
        self.on_ended: Callable[[LaneId, Iterable[TaskId]], None] = lambda lane, task_ids: None
        """Called with tasks of a lane that have ended, after the commit."""
        self.on_blocked: Callable[[Iterable[TaskId], Iterable[int]], None] = lambda task_ids, keys: None
        """Called with tasks that were put into `blocked`, and with keys for which a task waits no longer."""

    async def cancel(self, task_ids: Sequence[TaskId], reason: str) -> list[CancelOutcome]:
        """One outcome for each id. Raises StorageUnavailable."""
        outcomes: dict[TaskId, CancelOutcome] = {}
        pending, asked = list(dict.fromkeys(task_ids)), set[TaskId]()
        roots: list[FoundByCancel] = []
        while pending:
            found = await self._store.cancel(pending, reason)
            for each in found:
                waits = each.token is None
                outcomes[each.task_id] = CancelOutcome.CANCELLED if waits else CancelOutcome.REQUESTED
            self._push(found, reason)
            missing = [task_id for task_id in pending if task_id not in outcomes]
            pending = await self._classify(missing, outcomes) if missing else []
            if pending:
                # It may be blocked. If it has moved since, the next round finds it.
                blocked = await self._store.cancel_blocked(pending, reason)
                for each in blocked:
                    is_root = each.nodes is not None
                    outcomes[each.task_id] = CancelOutcome.REQUESTED if is_root else CancelOutcome.CANCELLED
                roots += [each for each in blocked if each.nodes is not None]
                self._push(blocked, reason)
                pending = [task_id for task_id in pending if task_id not in outcomes]
            pending += await self._found_in_outbox(outcomes, asked)
        self.on_change(outcomes)
        for root in roots:
            # By now another broker may have cancelled them, and somebody may have put them back.
            await self.cancel(await self._store.still_stopped(root.nodes or ()), reason)
        return [outcomes[task_id] for task_id in task_ids]

    async def _found_in_outbox(
        self, outcomes: dict[TaskId, CancelOutcome], asked: set[TaskId]
    ) -> list[TaskId]:
        """Ids that are no tasks may be in the outbox, or were so a moment ago: each is looked for there once,
        and then cancelled as others are."""
        unknown = [
            task_id
            for task_id, outcome in outcomes.items()
            if outcome is CancelOutcome.NOT_FOUND and task_id not in asked
        ]
        if not unknown:
            return []
        asked.update(unknown)
        removed = await self.from_outbox(unknown)
        outcomes |= dict.fromkeys(removed, CancelOutcome.CANCELLED)
        again = [task_id for task_id in unknown if task_id not in removed]
        for task_id in again:
            del outcomes[task_id]
        return again

    def follow_cancels(self, found: Sequence[FoundByCancel], reason: str) -> None:
        """Tell workers and watchers of tasks that a transaction of somebody else has cancelled."""
        self._push(found, reason)
        self.on_change([each.task_id for each in found])

    def follow_retries(self, requeued: Sequence[Requeued]) -> None:
        """The same of tasks that it has made ready."""
        if requeued:
            self._wake(requeued)
            self.on_change([each.task_id for each in requeued])

    def _push(self, found: Iterable[FoundByCancel], reason: str) -> None:
        orders = [
            CancelOrder(each.task_id, each.token, each.session_id, reason)
            for each in found
            if each.token is not None and each.session_id is not None
        ]
        elsewhere = self._sessions.push_cancels(orders) if orders else None
        if elsewhere:
            self.on_elsewhere(elsewhere)
        for each in found:
            if each.token is None:
                # The root of a workflow may have ended in the moment in which it was flagged.
                self.on_ended(each.lane, [each.task_id])
        keys = [each.key for each in found if each.key is not None]
        if keys:
            self.on_blocked((), keys)

    async def _classify(self, missing: list[TaskId], outcomes: dict[TaskId, CancelOutcome]) -> list[TaskId]:
        """Answer what the statement did not find; return what moved meanwhile (rule 4)."""
        moved = []
        for standing in await self._store.standing(missing):
            if not standing.known:
                outcomes[standing.task_id] = CancelOutcome.NOT_FOUND
            elif standing.flagged:
                outcomes[standing.task_id] = CancelOutcome.REQUESTED
            elif standing.live:
                moved.append(standing.task_id)
            else:
                outcomes[standing.task_id] = CancelOutcome.FINISHED
        return moved

    async def retry(self, task_ids: Sequence[TaskId]) -> list[RetryOutcome]:
        """One outcome for each id. Raises StorageUnavailable."""
        outcomes: dict[TaskId, RetryOutcome] = {}
        pending = list(dict.fromkeys(task_ids))
        for _ in range(_RETRY_ROUNDS):
            requeued = await self._store.retry(pending)
            outcomes |= {each.task_id: RetryOutcome.REQUEUED for each in requeued}
            if requeued:
                self._wake(requeued)
            missing = [task_id for task_id in pending if task_id not in outcomes]
            pending = await self._classify_retries(missing, outcomes) if missing else []
            if not pending:
                break
        outcomes |= dict.fromkeys(pending, RetryOutcome.NOT_FINAL)
        self.on_change(outcomes)
        return [outcomes[task_id] for task_id in task_ids]

    async def dismiss(self, task_ids: Sequence[TaskId], who: str) -> list[DismissOutcome]:
        """One outcome for each id. Raises StorageUnavailable."""
        dismissed = await self._store.dismiss(task_ids, who)
        others = list({*task_ids} - dismissed)
        known = (
            {each.task_id for each in await self._store.standing(others) if each.known} if others else set()
        )
        return [
            DismissOutcome.DISMISSED
            if task_id in dismissed
            else DismissOutcome.NOT_DEAD
            if task_id in known
            else DismissOutcome.NOT_FOUND
            for task_id in task_ids
        ]

    async def _classify_retries(
        self, missing: list[TaskId], outcomes: dict[TaskId, RetryOutcome]
    ) -> list[TaskId]:
        """Answer what the statement did not reopen; return what has ended meanwhile (rule 4)."""
        reopened = await self._store.reopened(missing)
        ended = []
        for standing in await self._store.standing(missing):
            if not standing.known:
                outcomes[standing.task_id] = RetryOutcome.NOT_FOUND
            elif standing.task_id in reopened:
                # Another retry has reopened the same end: for this caller it is done too.
                outcomes[standing.task_id] = RetryOutcome.REQUEUED
            elif standing.live:
                outcomes[standing.task_id] = RetryOutcome.NOT_FINAL
            elif standing.expired:
                outcomes[standing.task_id] = RetryOutcome.EXPIRED
            else:
                ended.append(standing.task_id)
        return ended

    def _wake(self, requeued: Sequence[Requeued]) -> None:
        ready = {(each.lane, each.rank) for each in requeued if not each.is_blocked}
        if ready:
            self._dispatcher.wake(ready, local=True)
        blocked = [each.task_id for each in requeued if each.is_blocked]
        if blocked:
            self.on_blocked(blocked, ())
