"""Submitting: wire tasks are checked one by one, stored together, and answered in their order."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from broker.domain.errors import (
    BrokerError,
    InvalidField,
    PayloadTooLarge,
    StorageUnavailable,
    TaskIdOutOfWindow,
    TooManyItems,
)
from broker.domain.model import NewTask, SubmitAnswer, Submitted, TaskExtras
from broker.engine.intake import Intake
from broker.service import fields
from broker.service.errors import to_item_error
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2 import SubmitResult

MOST_TASKS: Final = 1000
_DEFAULT_PRIORITY: Final = 5
_HIGHEST_PRIORITY: Final = 10
_OLDEST_MS: Final = 24 * 3600 * 1000
_NEWEST_MS: Final = 60 * 1000
_HALF: Final = 1 << 63
_MOST_NAMES: Final = 10_000
_MAP_BYTES: Final = 64 * 1024
_REJECTED: Final = task_service_pb2.SUBMIT_OUTCOME_REJECTED
_OUTCOMES: Final = {
    Submitted.STORED: task_service_pb2.SUBMIT_OUTCOME_STORED,
    Submitted.REPEATED: task_service_pb2.SUBMIT_OUTCOME_REPEATED,
    Submitted.DEDUPLICATED: task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED,
}
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 30.0


class Submitter:
    """Turns submitted wire tasks into answers."""

    def __init__(self, intake: Intake, payload_limit_bytes: int) -> None:
        self._intake = intake
        self._limit = payload_limit_bytes
        self._names: set[str] = set()

    async def submit(
        self, tasks: Sequence[task_pb2.NewTask], patience_s: float | None = None
    ) -> list[SubmitResult]:
        """Store tasks; one result for each, after the commit.

        While the database is away, tries again for `patience_s` (the caller's deadline), then raises
        StorageUnavailable. Raises TooManyItems.
        """
        if len(tasks) > MOST_TASKS:
            raise TooManyItems(len(tasks), MOST_TASKS)
        now_ms = int(time.time() * 1000)
        results: list[SubmitResult | None] = []
        accepted: list[NewTask] = []
        for wire in tasks:
            try:
                accepted.append(self._convert(wire, now_ms))
                results.append(None)
            except BrokerError as error:
                results.append(_rejected(wire.task_id, error))
        if not accepted:
            return [result for result in results if result is not None]
        answers = iter(await self._store(accepted, patience_s if patience_s is not None else _PATIENCE_S))
        stored = iter(accepted)
        return [result or _result(next(stored), next(answers)) for result in results]

    async def _store(self, tasks: list[NewTask], patience_s: float) -> Sequence[SubmitAnswer | BrokerError]:
        deadline = time.monotonic() + patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._intake.submit(tasks)
            except StorageUnavailable:
                # Repeating is safe: an id that the lost commit did store is recognised.
                if time.monotonic() + pause_s >= deadline:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _convert(self, wire: task_pb2.NewTask, now_ms: int) -> NewTask:
        task_id = fields.task_id(wire.task_id)
        made_ms = int(task_id[:8] + task_id[9:13], 16)
        if task_id[14] != "7":
            raise InvalidField("task_id", wire.task_id, "must be a UUID of version 7")
        if not now_ms - _OLDEST_MS < made_ms < now_ms + _NEWEST_MS:
            raise TaskIdOutOfWindow(wire.task_id, now_ms)
        if len(wire.payload) > self._limit:
            raise PayloadTooLarge("payload", len(wire.payload), self._limit)
        if not 0 <= wire.priority <= _HIGHEST_PRIORITY:
            raise InvalidField(
                "priority", wire.priority, "must lie between 1 and 10 (10 runs first), or be 0 for 5"
            )
        if wire.max_retries < 0:
            raise InvalidField("max_retries", wire.max_retries, "must be 0 or more")
        return NewTask(
            task_id,
            self._name(wire.name, "name"),
            self._name(wire.queue, "queue"),
            wire.payload,
            _HIGHEST_PRIORITY - (wire.priority or _DEFAULT_PRIORITY),
            wire.max_retries,
            fields.milliseconds(wire.timeout, "timeout", least=1) if wire.HasField("timeout") else None,
            fields.milliseconds(wire.retry_delay, "retry_delay", least=0)
            if wire.HasField("retry_delay")
            else None,
            fields.task_id(wire.parent_id, "parent_id") if wire.parent_id else None,
            fields.task_id(wire.root_id, "root_id") if wire.root_id else None,
            _extras(wire),
            digest(wire),
        )

    def _name(self, text: str, field: str) -> str:
        """A checked name; the few names of a service are checked once."""
        if text not in self._names:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names.add(fields.name(text, field))
        return text


def digest(wire: task_pb2.NewTask) -> int:
    """64 bits over everything submitted (protobuf's deterministic bytes)."""
    return xxh3_64_intdigest(wire.SerializeToString(deterministic=True)) - _HALF


def _extras(wire: task_pb2.NewTask) -> TaskExtras | None:
    start = wire.WhichOneof("start")
    if not (start or wire.idempotency_key or wire.content_type or wire.codec or wire.headers or wire.labels):
        return None
    return TaskExtras(
        delay_ms=fields.milliseconds(wire.delay, "delay", least=0) if start == "delay" else None,
        run_at=fields.moment(wire.run_at, "run_at") if start == "run_at" else None,
        idempotency_key=fields.short_text(wire.idempotency_key, "idempotency_key"),
        content_type=fields.short_text(wire.content_type, "content_type"),
        codec=fields.short_text(wire.codec, "codec"),
        headers=fields.texts(dict(wire.headers), "headers", _MAP_BYTES),
        labels=fields.texts(dict(wire.labels), "labels", _MAP_BYTES),
    )


def _result(task: NewTask, answer: SubmitAnswer | BrokerError) -> SubmitResult:
    if isinstance(answer, SubmitAnswer):
        result = SubmitResult()  # set one by one: half the cost of keyword arguments
        result.task_id = answer.task_id
        result.outcome = _OUTCOMES[answer.outcome]
        return result
    return _rejected(task.task_id, answer)


def _rejected(task_id: str, error: BrokerError) -> SubmitResult:
    return SubmitResult(task_id=task_id, outcome=_REJECTED, error=to_item_error(error))
