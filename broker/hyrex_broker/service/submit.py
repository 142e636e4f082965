"""Submitting: wire tasks are checked, stored together, and answered by their places."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2 import PlacedResult, SubmitResult
from hyrex_broker.domain.errors import BrokerError, StorageUnavailable, TooManyItems
from hyrex_broker.domain.features import FeatureGate
from hyrex_broker.domain.keys import KeyHit
from hyrex_broker.domain.model import SubmitAnswer, SubmitOutcome
from hyrex_broker.engine.fairness import Admission, Permit
from hyrex_broker.engine.submit.answers import Answer
from hyrex_broker.engine.submit.intake import Intake
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.errors import refused, to_item_error
from hyrex_broker.service.groups import MOST_TASKS, Submission, SubmitReader, count_of, ids_of
from hyrex_broker.service.rounds import in_rounds
from hyrex_broker.service.submit_rights import allowed, ready, without_others_keys
from hyrex_broker.service.task_rights import QueuesOf
from hyrex_broker.storage.availability import Availability

T = TypeVar("T")

_Errors: TypeAlias = dict[BrokerError, task_service_pb2.ItemError]
"""Errors of one answer as messages, by the identity of what they were made of."""
_REJECTED: Final = task_service_pb2.SUBMIT_OUTCOME_REJECTED
_STORED: Final = task_service_pb2.SUBMIT_OUTCOME_STORED
_OUTCOMES: Final = {
    SubmitOutcome.STORED: task_service_pb2.SUBMIT_OUTCOME_STORED,
    SubmitOutcome.REPEATED: task_service_pb2.SUBMIT_OUTCOME_REPEATED,
    SubmitOutcome.DEDUPLICATED: task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED,
}
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 2.0
"""Long enough for a restart of Postgres; after that, the client tries another broker."""
_REQUEST_COST: Final = 50
"""The cost of a request besides its tasks, in units of one task."""
_BUDGET: Final = 4400
"""Tasks that are checked or stored at a time, eight frames of 500: enough for statements without a gap, and
so few that whoever asks for one task finds the process ready to read it."""


class Results(Protocol):
    """The results of a response, as protobuf has them."""

    def add(
        self, *, task_id: str = "", outcome: task_service_pb2.SubmitOutcome.ValueType = ...
    ) -> SubmitResult:
        """A new one at the end."""
        ...


class PlacedResults(Protocol):
    """The results of an answer to a frame, as protobuf has them."""

    def add(self, *, place: int = ...) -> PlacedResult:
        """A new one at the end."""
        ...


class SubmitChecker:
    """Checks and stores submitted tasks, and fills in their results."""

    def __init__(
        self, intake: Intake, payload_limit_bytes: int, availability: Availability, queues: QueuesOf
    ) -> None:
        self._intake = intake
        self.gate = FeatureGate()
        """That of the cluster, where there is one."""
        self._queues = queues
        self._availability = availability
        self.reader = SubmitReader(payload_limit_bytes)
        self._admission = Admission(_BUDGET, _REQUEST_COST)

    async def submit(
        self,
        tasks: Sequence[task_pb2.NewTask],
        results: Results,
        patience_s: float | None = None,
        caller: Hashable = None,
    ) -> None:
        """Store tasks (which are taken apart) and add one result for each, after the commit.

        Callers have equal shares, and small requests come first. While the database is unreachable, this
        tries again for a moment (for `patience_s`, if that is shorter), then raises StorageUnavailable.
        Raises TooManyItems.
        """
        ids = [task.task_id for task in tasks]
        read = partial(self.reader.tasks, tasks)
        others = await self._others(read, len(ids), patience_s, caller)
        errors: _Errors = {}
        for place, text in enumerate(ids):
            answer = others.get(place)
            if answer is None:
                results.add(task_id=text.lower(), outcome=_STORED)
            else:
                fill_result(results.add(), text, answer, errors)

    async def submit_groups(
        self,
        groups: Sequence[task_service_pb2.TaskGroup],
        results: PlacedResults,
        patience_s: float | None = None,
        caller: Hashable = None,
    ) -> None:
        """As `submit`, for groups (which are taken apart): adds results for tasks that are not stored now."""
        read = partial(self.reader.groups, groups)
        others = await self._others(read, sum(map(count_of, groups)), patience_s, caller)
        if others:
            ids = ids_of(groups)
            errors: _Errors = {}
            for place, answer in sorted(others.items()):
                fill_result(results.add(place=place).result, ids[place], answer, errors)

    async def _others(
        self, read: Callable[[], Submission], count: int, patience_s: float | None, caller: Hashable
    ) -> dict[int, Answer]:
        """The answers for all that was not simply stored now, by place."""
        if count > MOST_TASKS:
            raise TooManyItems(count, MOST_TASKS)
        left_s = patience_of(patience_s)
        permit, waiting = self._admission.ask(caller, count)
        if waiting is not None:
            await self._unless_away(waiting, left_s)
        rights = current_caller()
        try:
            if rights.unlimited:
                return await self._admitted(read(), left_s, caller, permit)
            answers = await self._admitted(allowed(read(), rights), left_s, caller, permit)
            return await without_others_keys(answers, rights, self._queues)
        finally:
            permit.leave()

    async def whole(
        self,
        count: int,
        submit: Callable[[], Coroutine[Any, Any, T]],
        patience_s: float | None,
        caller: Hashable,
    ) -> T:
        """Store so many tasks by one call of `submit`, in turn with other callers, and again while the
        database is unreachable, as long as for `submit` above. Raises StorageUnavailable."""
        left_s = patience_of(patience_s)
        permit, waiting = self._admission.ask(caller, count)
        if waiting is not None:
            await self._unless_away(waiting, left_s)
        try:
            return await self._store(submit, left_s)
        finally:
            permit.leave()

    async def _admitted(
        self, submission: Submission, patience_s: float, caller: Hashable, permit: Permit
    ) -> dict[int, Answer]:
        if any(
            block.terms.extras is not None
            or block.concurrency_keys is not None
            or block.fair_keys is not None
            for block, _ in submission.blocks
        ):
            submission = await ready(submission, self.gate)
        answers: dict[int, Answer] = {**submission.refused}
        for blocks in in_rounds(submission.blocks):
            submit = self._intake.submission(
                [block for block, _ in blocks], caller, has_little=permit.has_little
            )
            stored = await self._store(submit, patience_s)
            for (_, places), others in zip(blocks, stored, strict=True):
                answers |= {places[place]: answer for place, answer in others.items()}
        return answers

    async def _store(self, submit: Callable[[], Coroutine[Any, Any, T]], patience_s: float) -> T:
        deadline = time.monotonic() + patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._unless_away(submit(), patience_s)
            except StorageUnavailable:
                # Repeating is safe: an id that the lost commit did store is recognised.
                if time.monotonic() + pause_s >= deadline:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _unless_away(self, waiting: Coroutine[Any, Any, T], patience_s: float) -> T:
        """Wait without limit, unless the database is or becomes unreachable: a statement on a lost connection
        may never end. Raises StorageUnavailable."""
        loop = asyncio.get_running_loop()
        availability = self._availability
        latest = loop.time() + patience_s if availability.away is not None else None
        try:
            async with asyncio.timeout_at(latest) as limit:

                def lost() -> None:
                    if not limit.expired():  # it cannot be moved any more, and what it ended may take a while
                        limit.reschedule(loop.time() + patience_s)

                availability.tell_when_lost(lost)
                try:
                    return await waiting
                finally:
                    availability.tell_no_more(lost)
        except TimeoutError:
            raise StorageUnavailable(availability.away or "the database was away") from None


def patience_of(wanted_s: float | None) -> float:
    """How long a submit is tried again while the database is unreachable."""
    return _PATIENCE_S if wanted_s is None else min(wanted_s, _PATIENCE_S)


def fill_result(result: SubmitResult, text: str, answer: Answer, errors: _Errors) -> None:
    """Fill in a result in place, at a third of the cost of making a message and copying it. Many tasks that
    are refused together share an error, which is converted once."""
    if not isinstance(answer, SubmitAnswer):
        result.task_id = text
        result.outcome = _REJECTED
        error = errors.get(answer)
        if error is None:
            error = errors[answer] = to_item_error(answer)
        else:
            refused[error.reason] += 1  # each task counts, also where the error is converted once
        result.error.CopyFrom(error)
        return
    result.task_id = answer.task_id
    result.outcome = _OUTCOMES[answer.outcome]
    if type(answer) is KeyHit:
        result.payload_differs = answer.holder.payload_differs
        result.status = task_pb2.TaskStatus.ValueType(answer.holder.state)
