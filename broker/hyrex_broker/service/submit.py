"""Submitting: wire tasks are checked one by one, stored together, and answered in their order."""

import asyncio
import time
from collections.abc import Coroutine, Hashable, Sequence
from typing import Any, Final, Protocol, TypeVar

from xxhash import xxh3_64_intdigest

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2 import SubmitResult
from hyrex_broker.domain.errors import (
    BrokerError,
    InvalidField,
    PayloadOverLimit,
    StorageUnavailable,
    TaskIdOutOfWindow,
    TooManyItems,
)
from hyrex_broker.domain.keys import KeyHit
from hyrex_broker.domain.model import NewTask, SubmitAnswer, SubmitOutcome, TaskId
from hyrex_broker.engine.fairness import Admission
from hyrex_broker.engine.submit.intake import Intake
from hyrex_broker.service import fields
from hyrex_broker.service.errors import to_item_error
from hyrex_broker.service.terms import KnownTerms
from hyrex_broker.storage.availability import Availability

T = TypeVar("T")

MOST_TASKS: Final = 1000
_OLDEST_MS: Final = 24 * 3600 * 1000
_NEWEST_MS: Final = 60 * 1000
_HALF: Final = 1 << 63
_ID_CHARACTERS: Final = 36
_CHARACTERS: Final = b"-0123456789abcdef"
_REJECTED: Final = task_service_pb2.SUBMIT_OUTCOME_REJECTED
_OUTCOMES: Final = {
    SubmitOutcome.STORED: task_service_pb2.SUBMIT_OUTCOME_STORED,
    SubmitOutcome.REPEATED: task_service_pb2.SUBMIT_OUTCOME_REPEATED,
    SubmitOutcome.DEDUPLICATED: task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED,
}
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 2.0
"""Long enough for a restart of Postgres; beyond it another broker may do."""
_REQUEST_COST: Final = 50
"""What a request costs this process beside its tasks, in tasks."""
_BUDGET: Final = 4400
"""Tasks that are checked or stored at a time, eight frames of 500: enough for statements without a gap, and
so few that whoever asks for one task finds the process ready to read it."""
_LITTLE: Final = 2 * _REQUEST_COST


class Results(Protocol):
    """The results of a response, as protobuf has them."""

    def add(self) -> SubmitResult:
        """A new one at the end."""
        ...


class SubmitChecker:
    """Turns submitted wire tasks into answers."""

    def __init__(self, intake: Intake, payload_limit_bytes: int, availability: Availability) -> None:
        self._intake = intake
        self._availability = availability
        self._limit = payload_limit_bytes
        self._terms = KnownTerms()
        self._admission = Admission(_BUDGET, _LITTLE)

    async def submit(
        self,
        tasks: Sequence[task_pb2.NewTask],
        results: Results,
        patience_s: float | None = None,
        caller: Hashable = None,
    ) -> None:
        """Store tasks (which are taken apart) and add one result for each, after the commit.

        Callers have equal shares, and small requests come first. While the database is away, tries again for
        a moment (or `patience_s`, the caller's deadline, if that is shorter), then raises StorageUnavailable.
        Raises TooManyItems.
        """
        if len(tasks) > MOST_TASKS:
            raise TooManyItems(len(tasks), MOST_TASKS)
        left_s = _PATIENCE_S if patience_s is None else min(patience_s, _PATIENCE_S)
        permit = await self._unless_away(self._admission.enter(caller, len(tasks) + _REQUEST_COST), left_s)
        try:
            await self._admitted(tasks, results, left_s, caller)
        finally:
            permit.leave()

    async def _admitted(
        self, tasks: Sequence[task_pb2.NewTask], results: Results, patience_s: float, caller: Hashable
    ) -> None:
        ids = [wire.task_id for wire in tasks]
        usual = _are_usual(ids)
        refused: dict[int, BrokerError] = {}
        accepted: list[NewTask] = []
        for wire, task_id in zip(tasks, ids, strict=True):
            try:
                accepted.append(self._convert(wire, TaskId(task_id) if usual else _checked_id(task_id)))
            except BrokerError as error:
                refused[len(accepted) + len(refused)] = error
        stored: Sequence[SubmitAnswer | BrokerError] = []
        if accepted:
            stored = await self._store(accepted, patience_s, caller)
        answers = iter(stored)
        for place, task_id in enumerate(ids):
            _fill(results.add(), task_id, refused.get(place) or next(answers))

    async def _store(
        self, tasks: list[NewTask], patience_s: float, caller: Hashable
    ) -> Sequence[SubmitAnswer | BrokerError]:
        deadline = time.monotonic() + patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._unless_away(self._intake.submit(tasks, caller), patience_s)
            except StorageUnavailable:
                # Repeating is safe: an id that the lost commit did store is recognised.
                if time.monotonic() + pause_s >= deadline:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _unless_away(self, waiting: Coroutine[Any, Any, T], patience_s: float) -> T:
        """Wait as long as it takes, unless the database is away, or goes away meanwhile: what hangs on a cut
        connection is answered by nobody. Raises StorageUnavailable."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + patience_s if self._availability.away is not None else None
        try:
            async with asyncio.timeout_at(latest) as limit:
                with self._availability.told_when_lost(lambda: limit.reschedule(loop.time() + patience_s)):
                    return await waiting
        except TimeoutError:
            raise StorageUnavailable(self._availability.away or "the database was away") from None

    def _convert(self, wire: task_pb2.NewTask, task_id: TaskId) -> NewTask:
        payload, parent, root = wire.payload, wire.parent_id, wire.root_id
        if len(payload) > self._limit:
            raise PayloadOverLimit("payload", len(payload), self._limit)
        wire.ClearField("task_id")
        wire.ClearField("payload")
        if not (parent or root):
            known = self._terms.of(wire)
            return NewTask(task_id, known.terms, payload, None, None, _digest(payload, known.seed))
        wire.ClearField("parent_id")
        wire.ClearField("root_id")
        known = self._terms.of(wire)
        return NewTask(
            task_id,
            known.terms,
            payload,
            fields.task_id(parent, "parent_id") if parent else None,
            fields.task_id(root, "root_id") if root else None,
            _digest(payload, xxh3_64_intdigest(f"{parent}/{root}".encode(), known.seed)),
        )


def _digest(payload: bytes, seed: int) -> int:
    """64 bits over everything submitted, as Postgres has them: the seed stands for all but the payload."""
    return xxh3_64_intdigest(payload, seed) - _HALF


def _are_usual(ids: list[str]) -> bool:
    """Whether all are canonical ids of the accepted times: checked as columns, a tenth of the cost of one
    by one. Equal lengths and order of texts are those of the numbers."""
    text = "".join(ids)
    if {*map(len, ids)} != {_ID_CHARACTERS} or text.count("-") != 4 * len(ids):
        return False
    dashes = "-" * len(ids)
    if any(text[place::_ID_CHARACTERS] != dashes for place in (8, 13, 18, 23)):
        return False
    if text[14::_ID_CHARACTERS] != "7" * len(ids) or text.encode().translate(None, _CHARACTERS):
        return False
    now_ms = int(time.time() * 1000)
    return now_ms - _OLDEST_MS < made_ms(min(ids)) and made_ms(max(ids)) < now_ms + _NEWEST_MS


def made_ms(task_id: str) -> int:
    """When an id was made, by the clock of whoever made it (Unix time)."""
    return int(task_id[:8] + task_id[9:13], 16)


def _checked_id(text: str) -> TaskId:
    """An id that may be stored. Raises InvalidField, TaskIdOutOfWindow."""
    task_id, now_ms = fields.task_id(text), int(time.time() * 1000)
    if task_id[14] != "7":
        raise InvalidField("task_id", text, "must be a UUID of version 7")
    if not now_ms - _OLDEST_MS < made_ms(task_id) < now_ms + _NEWEST_MS:
        raise TaskIdOutOfWindow(text, now_ms)
    return task_id


def _fill(result: SubmitResult, task_id: str, answer: SubmitAnswer | BrokerError) -> None:
    """Attribute by attribute, in place: a third of the cost of making a message and copying it."""
    if not isinstance(answer, SubmitAnswer):
        result.task_id = task_id
        result.outcome = _REJECTED
        result.error.CopyFrom(to_item_error(answer))
        return
    result.task_id = answer.task_id
    result.outcome = _OUTCOMES[answer.outcome]
    if type(answer) is KeyHit:
        result.payload_differs = answer.holder.payload_differs
        result.status = task_pb2.TaskStatus.ValueType(answer.holder.state)
