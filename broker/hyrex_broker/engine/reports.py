"""Reports: records how runs ended, in batches, and answers each: accepted, duplicate or stale."""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hyrex_broker.domain.ended import UNSTORABLE, EndBlock, Named, halves, joined
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.ids import hex_id, task_id
from hyrex_broker.domain.model import LaneId, Outcome, Receipt, RunEnd, SessionId, TaskId, Token
from hyrex_broker.engine.batching import Batcher, Cutting, StatementSlot
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.storage.endings import EndedSession
from hyrex_broker.storage.report import RemovedLease, ReportStore, ReturnedLeases
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE_S: Final = 0.2


def _named(end: RunEnd | RemovedLease) -> Named:
    return hex_id(end.task_id), end.token, end.session_id


def _size_bytes(end: RunEnd) -> int:
    return len(end.traceback or "")


@dataclass(frozen=True, slots=True)
class Refused:
    """Which ends of a block were not accepted."""

    duplicate: Sequence[Token] = ()
    stale: Sequence[Token] = ()


_NONE_REFUSED: Final = Refused()


def _unmatched(ends: EndBlock, ended: Sequence[ReturnedLeases]) -> list[int]:
    if len(ended) == 1 and ended[0].places is None:
        return []
    matched = {place for each in ended for place in each.places or ()}
    return [place for place in range(len(ends)) if place not in matched]


def _refused(block: EndBlock, receipts: Mapping[Named, Receipt]) -> Refused:
    told = [(name[1], receipts.get(name)) for name in block.named()]
    return Refused(
        [token for token, said in told if said is Receipt.DUPLICATE],
        [token for token, said in told if said is Receipt.STALE],
    )


def _joined(block: EndBlock, first: Refused, second: Refused) -> Refused:
    return Refused([*first.duplicate, *second.duplicate], [*first.stale, *second.stale])


def _result_bytes(block: EndBlock) -> int:
    return sum(map(len, block.results))


class RunReports:
    """Records ends of runs, and wakes the parts that go on from there."""

    def __init__(
        self, store: ReportStore, sessions: Sessions, dispatcher: Dispatcher, promoter: Promoter
    ) -> None:
        self._store = store
        self._counters = store.counters
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._promoter = promoter
        self._batcher: Batcher[RunEnd, Receipt] = Batcher(
            self._flush, self._refuse, _size_bytes, merged=self._counters.merged("report")
        )
        cutting: Cutting[EndBlock, Refused] = Cutting(len, halves, _joined)
        self._returned = Batcher(
            self._flush_returned,
            self._refuse_returned,
            _result_bytes,
            cutting,
            self._counters.merged("report_completed"),
        )
        self.on_change: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        self.on_ended: Callable[[LaneId, Iterable[TaskId]], None] = lambda lane, task_ids: None
        """Called with tasks of a lane that have ended for good, after the commit."""

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        returned = {f"returned: {name}": size for name, size in self._returned.sizes().items()}
        return self._batcher.sizes() | returned

    async def run(self) -> None:
        """Record batches until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._batcher.run())
            group.create_task(self._returned.run())

    def report(self, ends: Sequence[RunEnd], caller: Hashable = None) -> "asyncio.Future[Sequence[Receipt]]":
        """Record ends; one receipt for each, after the commit. That waits while the database is unreachable.
        Callers share the batches."""
        return self._batcher.add(ends, caller)

    def report_returned(
        self, blocks: Sequence[EndBlock], caller: Hashable = None
    ) -> "asyncio.Future[Sequence[Refused]]":
        """As `report`, of runs that returned."""
        return self._returned.add(blocks, caller)

    async def _flush_returned(
        self, blocks: Sequence[EndBlock], statement: StatementSlot
    ) -> Sequence[Refused]:
        """As `_flush`; the blocks of a batch are one statement."""
        receipts: dict[Named, Receipt] = {}
        pending = [joined(blocks)]
        while pending:
            try:
                receipts |= await self._record_returned(pending[-1], statement)
                del pending[-1]
            except StorageUnavailable as error:
                log.debug("reports wait for the database", extra={"error": str(error)})
                if error.timed_out and len(pending[-1]) > 1:
                    pending += reversed(halves(pending.pop()))
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
        return [_refused(block, receipts) if receipts else _NONE_REFUSED for block in blocks]

    async def _record_returned(self, ends: EndBlock, statement: StatementSlot) -> dict[Named, Receipt]:
        """Record a block; the receipts of those that were not accepted."""
        receipts: dict[Named, Receipt] = {}
        while len(ends):
            ended = await self._store.end_returned(ends)
            await statement.pass_on()
            self._follow_returned(ends, ended)
            if not (places := _unmatched(ends, ended)):
                break
            missing = ends.taking(places)
            ends = missing.taking(await self._classify(missing.named(), receipts))
        return receipts

    def _follow_returned(self, ends: EndBlock, ended: Sequence[ReturnedLeases]) -> None:
        lanes, count = set(), 0
        for each in ended:
            block = ends if each.places is None else ends.taking(each.places)
            session = self._sessions.by_id.get(each.session_id)
            if session is not None:
                session.remove_all(block.tokens)
            lanes.add(each.lane)
            count += len(block)
            self._counters.returned(each.lane, len(block), block.elapsed_us)
            self.on_change(map(task_id, block.task_ids))
            self.on_ended(each.lane, map(task_id, block.task_ids))
        self._dispatcher.leases_ended(lanes, count)

    async def _flush(self, ends: Sequence[RunEnd], statement: StatementSlot) -> list[Receipt]:
        """Record a batch however long that takes; in smaller portions when the whole takes too long."""
        receipts: list[Receipt] = []
        portion = len(ends)
        while len(receipts) < len(ends):
            try:
                # Repeating is safe: what was recorded before is recognised as a duplicate.
                receipts += await self._record(ends[len(receipts) : len(receipts) + portion], statement)
            except StorageUnavailable as error:
                log.debug("reports wait for the database", extra={"error": str(error)})
                if error.timed_out:
                    portion = max(portion // 2, 1)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
        return receipts

    async def _record(self, ends: Sequence[RunEnd], statement: StatementSlot) -> list[Receipt]:
        receipts: dict[Named, Receipt] = {}
        pending = list({_named(end): end for end in ends}.values())
        while pending:
            ended = await self._store.end(pending)
            await statement.pass_on()
            self._count_times(pending, ended)
            self.follow(ended, [each.task_id for each in ended])
            receipts |= dict.fromkeys(map(_named, ended), Receipt.ACCEPTED)
            missing = [end for end in pending if _named(end) not in receipts]
            pending = [missing[place] for place in await self._classify([*map(_named, missing)], receipts)]
        return [receipts[_named(end)] for end in ends]

    def _count_times(self, ends: Iterable[RunEnd], ended: Iterable[RemovedLease]) -> None:
        elapsed = {end.token: end.elapsed_us for end in ends}
        for each in ended:
            if (elapsed_us := elapsed.get(each.token)) is not None:
                self._counters.ran(each.lane, elapsed_us)

    async def _classify(self, missing: Sequence[Named], receipts: dict[Named, Receipt]) -> list[int]:
        """Answer reports that matched no lease; return the places of those that lost a race (rule 4)."""
        if not missing:
            return []
        undecided, settled, stale = [], [], 0
        states = await self._store.classify(missing)
        for place, (name, state) in enumerate(zip(missing, states, strict=True)):
            if state.held and not state.recorded:
                undecided.append(place)
                continue
            settled.append(name)
            stale += not state.recorded
            receipts[name] = Receipt.DUPLICATE if state.recorded else Receipt.STALE
        if stale:
            log.info("stale reports refused", extra={"count": stale})
        self._forget(settled)
        return undecided

    async def end_session(
        self, session_id: SessionId, secret: bytes, outcome: Outcome, reason: str
    ) -> EndedSession:
        """End a session for good, and do what follows from its leases.

        Raises SessionEnded, SessionSecretInvalid, StorageUnavailable.
        """
        ended = await self._sessions.end(session_id, secret, outcome, reason)
        self.follow(ended.ended, ended.task_ids)
        return ended

    def follow(self, ended: Sequence[RemovedLease], task_ids: Iterable[TaskId]) -> None:
        """Update what depends on removed leases: capacity, limits, requeued tasks, watchers."""
        for each in ended:
            session = self._sessions.by_id.get(each.session_id)
            if session is not None:
                session.remove(each.token)
            self._counters.run_ended(each.lane, each.outcome, final=each.requeued_in_ms is None)
            if each.requeued_in_ms is None:
                self.on_ended(each.lane, [each.task_id])
        ready = {(each.lane, each.rank) for each in ended if each.requeued_in_ms == 0}
        if ready:
            self._dispatcher.wake(ready, local=True)
        if any(each.requeued_in_ms for each in ended):
            self._promoter.expect()
        self._dispatcher.leases_ended({each.lane for each in ended}, len(ended))
        self.on_change(task_ids)

    def _forget(self, settled: Iterable[Named]) -> None:
        """Remove these leases from the sessions that reported them, and from no other session."""
        for digits, token, session_id in settled:
            session = self._sessions.of(session_id)
            if session is not None and session.holds(digits, token):
                session.remove(token)
        self._dispatcher.capacity_changed()

    async def _refuse_returned(self, block: EndBlock, error: StatementRefused) -> Refused:
        """Record a run whose result cannot be stored as failed."""
        receipt = await self._recorded(block.failed(0, UNSTORABLE, _refusal(error)))
        tokens = [block.tokens[0]]
        return Refused(
            tokens if receipt is Receipt.DUPLICATE else (), tokens if receipt is Receipt.STALE else ()
        )

    async def _refuse(self, end: RunEnd, error: StatementRefused) -> Receipt:
        """Record a run of which something cannot be stored as failed, without that."""
        failed = RunEnd(
            end.task_id, end.token, end.session_id, Outcome.FAILED,
            error_type=UNSTORABLE, error_message=_refusal(error), retryable=False,
        )  # fmt: skip
        return await self._recorded(failed)

    async def _recorded(self, failed: RunEnd) -> Receipt:
        """If even that cannot be stored, the report is stale."""
        try:
            return (await self._flush([failed], StatementSlot(lambda: False)))[0]
        except StatementRefused as again:
            log.error("a report cannot be stored at all", extra={"sqlstate": again.sqlstate})
            return Receipt.STALE


def _refusal(error: StatementRefused) -> str:
    return f"the database refused the report ({error.sqlstate})"
