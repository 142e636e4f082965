"""ReplayTask: a new task like an earlier one, whose payload the broker copies; over a real channel."""

import pytest

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.service.fields import texts as checked
from hyrex_broker.service.terms import MAP_BYTES
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import ROOT, Stubs, reason_of
from tests.support.tokens import made


def replay(task_id: str, **more: bytes) -> task_service_pb2.ReplayTaskRequest:
    return task_service_pb2.ReplayTaskRequest(task_id=task_id, new_task_id=make_id(), **more)


async def seeded(seed: Seed) -> str:
    """A failed task that has everything a task may have."""
    task_id = await seed.task(
        payload=b'{"n": 1}', queue="mail", name="send", headers='{"h": "1"}', labels='{"l": "2"}'
    )
    await seed.execute(
        "update task set rank = 3, max_retries = 7, timeout_ms = 1500, retry_delay_ms = 250,"
        " content_type = 'a/b', idempotency_key = 'once', fair_key = 'ada',"
        " parent_id = $1, root_id = $1 where id = $1",
        task_id,
    )
    await seed.run(task_id, 3, error="ValueError")
    return task_id


async def test_a_replay_has_all_of_the_earlier_task_but_its_key_and_parent(stubs: Stubs, seed: Seed) -> None:
    earlier = await seeded(seed)
    request = replay(earlier)
    answer = await stubs.tasks.ReplayTask(request)
    assert answer.result.task_id == request.new_task_id
    expected = task_pb2.NewTask(
        task_id=request.new_task_id, name="send", queue="mail", payload=b'{"n": 1}', content_type="a/b",
        priority=7, max_retries=7, headers={"h": "1"}, labels={"l": "2", "hyrex.replay_of": earlier},
        fair_key="ada",
    )  # fmt: skip
    expected.timeout.FromMilliseconds(1500)
    expected.retry_delay.FromMilliseconds(250)
    assert stubs.recorded.tasks == [expected]


@pytest.mark.parametrize(("free", "labelled"), [(51, True), (50, False)])
async def test_a_task_whose_labels_are_full_is_replayed_without_one_more(
    free: int, labelled: bool, stubs: Stubs, seed: Seed
) -> None:
    """The label takes 51 bytes: 15 of its name, and an id."""
    earlier = await seeded(seed)
    await seed.execute(
        "update task set labels = jsonb_build_object('l', repeat('x', $1::integer)) where id = $2",
        MAP_BYTES - free - 1,
        earlier,
    )
    await stubs.tasks.ReplayTask(replay(earlier))
    (task,) = stubs.recorded.tasks
    assert ("hyrex.replay_of" in task.labels) is labelled
    assert checked(dict(task.labels), "labels", MAP_BYTES)


@pytest.mark.parametrize("edited", [b'{"n": 2}', b""])
async def test_a_payload_that_is_given_replaces_the_earlier_one(
    edited: bytes, stubs: Stubs, seed: Seed
) -> None:
    await stubs.tasks.ReplayTask(replay(await seeded(seed), payload=edited))
    assert [task.payload for task in stubs.recorded.tasks] == [edited]


async def test_an_encoded_payload_is_copied_and_not_edited(stubs: Stubs, seed: Seed) -> None:
    earlier = await seeded(seed)
    await seed.execute("update task set codec = 'zstd' where id = $1", earlier)
    assert await reason_of(stubs.tasks.ReplayTask(replay(earlier, payload=b"{}"))) == "INVALID_FIELD"
    await stubs.tasks.ReplayTask(replay(earlier))
    assert [(task.codec, task.payload) for task in stubs.recorded.tasks] == [("zstd", b'{"n": 1}')]


async def test_only_a_task_of_an_own_queue_is_replayed_without_seeing_what_it_carries(
    guarded: Stubs, seed: Seed
) -> None:
    earlier = await seeded(seed)
    own = await made(guarded.admin, ROOT, "own", "submit", "mail")
    other = await made(guarded.admin, ROOT, "other", "submit read payload", "another")
    for request in (replay(earlier), replay(make_id())):
        assert await reason_of(guarded.tasks.ReplayTask(request, metadata=other)) == "TASK_NOT_FOUND"
    reader = await made(guarded.admin, ROOT, "reader", "read payload", "mail")
    assert await reason_of(guarded.tasks.ReplayTask(replay(earlier), metadata=reader)) == "RIGHT_MISSING"
    assert guarded.recorded.tasks == []
    await guarded.tasks.ReplayTask(replay(earlier), metadata=own)
    assert [task.payload for task in guarded.recorded.tasks] == [b'{"n": 1}']
    await guarded.audit.flush()
    noted = await seed.rows("select who, details from audit where action = 'task.replay'")
    assert [(row["who"], earlier in row["details"]) for row in noted] == [("own", True)]


@pytest.mark.parametrize("field", ["task_id", "new_task_id"])
async def test_an_id_that_is_none_is_refused_by_name(field: str, stubs: Stubs) -> None:
    request = replay(make_id())
    setattr(request, field, "17")
    assert await reason_of(stubs.tasks.ReplayTask(request)) == "INVALID_FIELD"
