"""CompleteTasks over a real channel: what each task's end is answered, and what is refused by its name."""

from typing import Any

import pytest

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.config import MIB
from hyrex_broker.domain.model import TaskId
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import ROOT, Stubs, outcome_of
from tests.support.tokens import made

PB = task_service_pb2


async def outside(seed: Seed, queue: str = "default") -> TaskId:
    """A task that waits for a call from outside."""
    task_id = await seed.task(queue=queue)
    await seed.execute("update task set kind = 2 where id = $1", task_id)
    await seed.execute(
        "insert into blocked"
        " (task_id, lane, rank, kind, run_number, attempt_number, redeliveries, releases, alone)"
        " select id, lane, rank, 2, 0, 0, 0, 0, false from task where id = $1",
        task_id,
    )
    return task_id


def approving(*task_ids: str, **more: Any) -> task_service_pb2.CompleteTasksRequest:
    said = {} if "error" in more else {"result": PB.OutsideResult(result=b"true")}
    return PB.CompleteTasksRequest(**{"task_ids": task_ids, **said, **more})


async def test_each_task_is_answered_by_its_id(stubs: Stubs, seed: Seed) -> None:
    waiting, queued, ended, expired = [await outside(seed) for _ in range(4)]
    await seed.execute("delete from blocked where task_id = any ($1::uuid[])", [queued, ended])
    await seed.ready(queued)
    await seed.run(ended, 2)
    await seed.execute("update task set expires_at = now() - interval '1 s' where id = $1", expired)
    ids = [waiting, queued, ended, expired, make_id(), waiting]
    answer = await stubs.tasks.CompleteTasks(approving(*ids, reason="ada said so"))
    assert [each.task_id for each in answer.results] == ids
    assert [each.outcome for each in answer.results] == [
        PB.COMPLETE_OUTCOME_ENDED,
        PB.COMPLETE_OUTCOME_NOT_WAITING,
        PB.COMPLETE_OUTCOME_FINISHED,
        PB.COMPLETE_OUTCOME_FINISHED,
        PB.COMPLETE_OUTCOME_NOT_FOUND,
        PB.COMPLETE_OUTCOME_ENDED,
    ]
    again = await stubs.tasks.CompleteTasks(approving(waiting))
    assert [each.outcome for each in again.results] == [PB.COMPLETE_OUTCOME_FINISHED]
    task = (await stubs.tasks.GetTask(PB.GetTaskRequest(task_id=waiting))).task
    assert (task.status, task.outside, len(task.runs)) == (task_pb2.TASK_STATUS_COMPLETED, True, 1)
    assert (task.runs[0].result, task.runs[0].reason) == (b"true", "ada said so")


async def test_an_error_makes_a_task_fail(stubs: Stubs, seed: Seed) -> None:
    waiting = await outside(seed)
    error = task_pb2.RunError(type="Refused", message="too dear", traceback="none")
    await stubs.tasks.CompleteTasks(approving(waiting, error=error))
    task = (await stubs.tasks.GetTask(PB.GetTaskRequest(task_id=waiting))).task
    assert (task.status, task.runs[0].error) == (task_pb2.TASK_STATUS_FAILED, error)


async def test_only_tasks_of_own_queues_are_ended_and_the_audit_names_them(
    guarded: Stubs, seed: Seed
) -> None:
    own = await made(guarded.admin, ROOT, "own", "complete", "own")
    mine, other = await outside(seed, "own"), await outside(seed, "another")
    answer = await guarded.tasks.CompleteTasks(approving(other, mine), metadata=own)
    assert [each.outcome for each in answer.results] == [
        PB.COMPLETE_OUTCOME_NOT_FOUND,
        PB.COMPLETE_OUTCOME_ENDED,
    ]
    await guarded.audit.flush()
    noted = await seed.rows("select who, details from audit where action = 'task.complete'")
    assert [(row["who"], mine in row["details"], other in row["details"]) for row in noted] == [
        ("own", True, False)
    ]
    every = await made(guarded.admin, ROOT, "all-but-one", "submit work read payload admin")
    assert await outcome_of(guarded.tasks.CompleteTasks(approving(other), metadata=every)) == "RIGHT_MISSING"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"result": None}, "INVALID_FIELD"),
        ({"error": task_pb2.RunError(message="without a type")}, "INVALID_FIELD"),
        ({"error": task_pb2.RunError(type="x" * 256)}, "INVALID_FIELD"),
        ({"error": task_pb2.RunError(type="T", message="\0")}, "INVALID_FIELD"),
        ({"error": task_pb2.RunError(type="T", message="x" * (64 * 1024 + 1))}, "INVALID_FIELD"),
        ({"error": task_pb2.RunError(type="T", traceback="x" * (64 * 1024 + 1))}, "INVALID_FIELD"),
        ({"result": PB.OutsideResult(content_type="x" * 256)}, "INVALID_FIELD"),
        ({"result": PB.OutsideResult(result=b"x" * (MIB + 1))}, "PAYLOAD_TOO_LARGE"),
        ({"reason": "x" * 1001}, "INVALID_FIELD"),
        ({"task_ids": ["no id"]}, "INVALID_FIELD"),
        ({"task_ids": [make_id()] * 1001}, "TOO_MANY_ITEMS"),
        ({"task_ids": [make_id()] * 5, "result": PB.OutsideResult(result=b"x" * MIB)}, "PAYLOAD_TOO_LARGE"),
        (
            {"task_ids": [make_id()] * 100, "error": task_pb2.RunError(type="T", message="x" * 65_000)},
            "PAYLOAD_TOO_LARGE",
        ),
    ],
)
async def test_what_is_out_of_bounds_is_refused_and_nothing_ends(
    stubs: Stubs, seed: Seed, changes: dict[str, Any], reason: str
) -> None:
    waiting = await outside(seed)
    more = {**changes, "task_ids": [waiting, *changes.get("task_ids", [])]}
    request = approving(**more)
    assert await outcome_of(stubs.tasks.CompleteTasks(request)) == reason
    assert len(await seed.rows("select from blocked")) == 1


async def test_what_a_later_version_means_is_refused(stubs: Stubs, seed: Seed) -> None:
    waiting = await outside(seed)
    request = PB.CompleteTasksRequest.FromString(approving(waiting).SerializeToString() + b"\xf0\x03\x01")
    assert await outcome_of(stubs.tasks.CompleteTasks(request)) == "INVALID_FIELD"
