"""Single tasks and groups of a StreamSubmit frame, one from the other: what is meant, what the wire has."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from hyrex.v1 import task_pb2, task_service_pb2

Value = TypeVar("Value")


def grouped(tasks: Iterable[task_pb2.NewTask]) -> list[task_service_pb2.TaskGroup]:
    """Each task as a group of one, in their order."""
    return [group_of(task) for task in tasks]


def group_of(task: task_pb2.NewTask) -> task_service_pb2.TaskGroup:
    """A task as a group of one."""
    terms = task_pb2.NewTask()
    terms.CopyFrom(task)
    for own in ("task_id", "payload", "headers", "idempotency_key", "concurrency_key", "fair_key"):
        terms.ClearField(own)
    return task_service_pb2.TaskGroup(
        terms=terms,
        task_ids=packed(task.task_id),
        payloads=[task.payload],
        headers=[task_pb2.Headers(headers=task.headers)] if task.headers else [],
        idempotency_keys=[task.idempotency_key] if task.idempotency_key else [],
        concurrency_keys=[task.concurrency_key] if task.concurrency_key else [],
        fair_keys=[task.fair_key] if task.fair_key else [],
    )


def packed(*task_ids: str) -> bytes:
    """Ids as a group has them."""
    return b"".join(uuid.UUID(task_id).bytes for task_id in task_ids)


def ungrouped(groups: Iterable[task_service_pb2.TaskGroup]) -> Iterator[task_pb2.NewTask]:
    """The tasks of groups, in the order of their places."""
    for group in groups:
        count = len(group.payloads)
        headers = stretched(group.headers, count) or [task_pb2.Headers()] * count
        keys = stretched(group.idempotency_keys, count) or [""] * count
        concurrency_keys = stretched(group.concurrency_keys, count) or [""] * count
        fair_keys = stretched(group.fair_keys, count) or [""] * count
        for at in range(count):
            task = task_pb2.NewTask()
            task.CopyFrom(group.terms)
            task.task_id = str(uuid.UUID(bytes=group.task_ids[16 * at : 16 * at + 16]))
            task.payload = group.payloads[at]
            task.headers.update(headers[at].headers)
            task.idempotency_key = keys[at]
            task.concurrency_key = concurrency_keys[at]
            task.fair_key = fair_keys[at]
            yield task


def stretched(column: Sequence[Value], count: int) -> list[Value]:
    """A column's values, one for each."""
    return list(column) * (count if len(column) == 1 else 1)


def placed(results: Sequence[task_service_pb2.SubmitResult]) -> list[task_service_pb2.PlacedResult]:
    """The results that an answer to a frame names: all that are not stored now."""
    return [
        task_service_pb2.PlacedResult(place=place, result=result)
        for place, result in enumerate(results)
        if result.outcome != task_service_pb2.SUBMIT_OUTCOME_STORED
    ]
