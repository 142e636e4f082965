"""Lists by filter: patterns, labels, errors and ages, and looks that stay bounded whatever is asked."""

import time
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.runtime import patterns
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as messages
from hyrex_broker.domain.selection import Selection
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage import listing
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.pool import Database
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import Stubs, ids_of, reason_of
from tests.integration.service.test_listing import everything

FAILED, TIMED_OUT = task_pb2.TASK_STATUS_FAILED, task_pb2.TASK_STATUS_TIMED_OUT
MANY = 200_000
DAY_MS = 86_400_000


async def listed(stubs: Stubs, **wanted: Any) -> list[str]:
    answer = await stubs.tasks.ListTasks(messages.ListTasksRequest(filter=messages.TaskFilter(**wanted)))
    return ids_of(answer.tasks)


async def test_stars_stand_for_any_text_and_nothing_else_does(stubs: Stubs, seed: Seed) -> None:
    names = ("send_mail", "sendXmail", "send", "resend", "100%")
    task = {name: await seed.ready(await seed.task(queue="mail.eu", name=name)) for name in names}
    await seed.ready(await seed.task(queue="other", name="send_mail"))
    newest_first = sorted((task[name] for name in ("send_mail", "sendXmail", "send")), reverse=True)
    assert await listed(stubs, queues=["mail.*"], names=["send*"]) == newest_first
    assert await listed(stubs, queues=["mail*"], names=["send_*"]) == [task["send_mail"]]
    assert await listed(stubs, queues=["mail*"], names=["*%"]) == [task["100%"]]
    assert await listed(stubs, names=["re*", "1*"]) == [task["100%"], task["resend"]]
    assert await listed(stubs, queues=["nowhere*"]) == []


async def test_a_star_or_backslash_behind_a_backslash_stands_for_itself(stubs: Stubs, seed: Seed) -> None:
    names = ("send*", "sender", "send\\", "send\\er", "send\\*")
    task = {name: await seed.run(await seed.task(name=name), 3, error=name) for name in names}
    for name in names:
        pattern = patterns.escaped(name)
        assert await listed(stubs, names=[pattern]) == [task[name]]
        assert await listed(stubs, error_types=[pattern]) == [task[name]]
        assert await listed(stubs, error_types=[pattern], statuses=[FAILED]) == [task[name]]
    both = [task["send\\*"], task["send\\er"], task["send\\"]]
    assert await listed(stubs, names=["send\\\\*"]) == sorted(both, reverse=True)
    for pattern in ("send\\", "se\\nd", "\\\\\\"):
        request = messages.ListTasksRequest(filter=messages.TaskFilter(names=[pattern]))
        assert await reason_of(stubs.tasks.ListTasks(request)) == "INVALID_FIELD"


@pytest.mark.parametrize("longest_look", [2, 50_000])
async def test_labels_are_found_by_walking_and_by_their_index_alike(
    database: Database, seed: Seed, monkeypatch: pytest.MonkeyPatch, longest_look: int
) -> None:
    """With looks of two rows the index takes over at once; it looks at one day after the other."""
    monkeypatch.setattr(listing, "_FIRST_LOOK", 2)
    monkeypatch.setattr(listing, "_LONGEST_LOOK", longest_look)
    lists, now = TaskLists(database), int(time.time() * 1000)
    wanted = []
    for place in range(12):
        task_id = make_id(now - place % 3 * DAY_MS - place)
        seven = await seed.task(task_id, labels='{"tenant": "7", "tier": "gold"}')
        await seed.ready(await seed.task(make_id(now - place), labels='{"tenant": "8"}'))
        wanted.append(await seed.ready(seven))
    await seed.ready(await seed.task())
    expected = sorted(wanted, reverse=True)
    assert await everything(lists, Selection(labels=(("tenant", "7"),))) == expected
    both = Selection(labels=(("tenant", "7"), ("tier", "gold")), states=frozenset({TaskState.QUEUED}))
    assert await everything(lists, both) == expected
    assert await everything(lists, Selection(labels=(("tenant", "7"), ("tier", "lead")))) == []


async def test_labels_of_many_tasks_are_found_by_walking(
    database: Database, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index knows no order: beyond a number of tasks it is left."""
    monkeypatch.setattr(listing, "_FIRST_LOOK", 2)
    monkeypatch.setattr(listing, "_LONGEST_LOOK", 2)
    monkeypatch.setattr(listing, "_FEW_LABELLED", 3)
    tasks = [await seed.ready(await seed.task(labels='{"tenant": "7"}')) for _ in range(9)]
    found = await everything(TaskLists(database), Selection(labels=(("tenant", "7"),)))
    assert found == sorted(tasks, reverse=True)


async def test_an_error_type_finds_what_failed_by_it_and_what_will_try_again(
    stubs: Stubs, seed: Seed
) -> None:
    failed = await seed.run(await seed.task(), 3, error="Timeout")
    timed_out = await seed.run(await seed.task(), 4, error="SlowTimeout")
    retrying = await seed.delayed(await seed.run(await seed.task(), 3, final=False, error="Timeout"), 1)
    await seed.run(await seed.task(), 3, error="ValueError")
    await seed.run(await seed.run(await seed.task(), 3, 0, error="Timeout", final=False), 2, 1)
    assert await listed(stubs, error_types=["Timeout"]) == [retrying, failed]
    assert await listed(stubs, error_types=["*Timeout"], statuses=[FAILED, TIMED_OUT]) == [timed_out, failed]
    assert await listed(stubs, error_types=["Time_ut"]) == []


async def test_a_place_finds_what_was_raised_there_and_nothing_of_another_type(
    stubs: Stubs, seed: Seed
) -> None:
    mail, post = "shop.mail:41 in send", "shop.post:7 in send"
    here = await seed.run(await seed.task(), 3, error="Timeout", place=mail)
    other_type = await seed.run(await seed.task(), 3, error="Refused", place=mail)
    await seed.run(await seed.task(), 3, error="Timeout", place=post)
    await seed.run(await seed.task(), 3, error="Timeout")
    assert await listed(stubs, error_places=[mail]) == [other_type, here]
    assert await listed(stubs, error_places=["shop.mail:*"], error_types=["Timeout"], dead=True) == [here]
    answer = await stubs.tasks.ListTasks(
        messages.ListTasksRequest(filter=messages.TaskFilter(error_places=[mail]))
    )
    assert {task.runs[-1].error.place for task in answer.tasks} == {mail}


async def test_ages_are_those_of_the_ids_by_the_brokers_clock(stubs: Stubs, seed: Seed) -> None:
    now = int(time.time() * 1000)
    old = await seed.ready(await seed.task(make_id(now - 7_200_000)))
    young = await seed.ready(await seed.task(make_id(now - 600_000)))
    hour = {"seconds": 3600}
    assert await listed(stubs, older_than=hour) == [old]
    assert await listed(stubs, younger_than=hour) == [young]
    assert await listed(stubs, older_than={"seconds": 60}, younger_than=hour) == [young]


async def test_a_filter_keeps_its_pages_apart_from_those_of_another(stubs: Stubs, seed: Seed) -> None:
    for _ in range(3):
        await seed.ready(await seed.task(labels='{"tenant": "7"}'))
    seven = messages.TaskFilter(labels={"tenant": "7"}, younger_than=Duration(seconds=3600))
    first = await stubs.tasks.ListTasks(messages.ListTasksRequest(page_size=2, filter=seven))
    token = first.next_page_token
    second = await stubs.tasks.ListTasks(
        messages.ListTasksRequest(page_size=2, page_token=token, filter=seven)
    )
    assert len({*ids_of(first.tasks), *ids_of(second.tasks)}) == 3
    eight = messages.TaskFilter(labels={"tenant": "8"})
    other = messages.ListTasksRequest(page_size=2, page_token=token, filter=eight)
    assert await reason_of(stubs.tasks.ListTasks(other)) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "wanted",
    [
        {"names": ["a*b*c*d*e*"]},
        {"queues": ["x"] * 21},
        {"queues": [""]},
        {"error_types": ["\0"]},
        {"labels": {"": "x"}},
        {"labels": {"k": "v" * 5000}},
        {"older_than": {"seconds": -1}},
        {"younger_than": {"seconds": 0}},
        {"parent_id": "nobody"},
        {"statuses": [0]},
    ],
)
async def test_a_filter_that_means_nothing_is_refused(stubs: Stubs, wanted: dict[str, Any]) -> None:
    request = messages.ListTasksRequest(filter=messages.TaskFilter(**wanted))
    assert await reason_of(stubs.tasks.ListTasks(request)) == "INVALID_FIELD"


async def test_a_count_stops_at_its_number(stubs: Stubs, seed: Seed) -> None:
    for _ in range(5):
        await seed.ready(await seed.task(queue="mail"))
    await seed.ready(await seed.task(queue="other"))
    mail = messages.TaskFilter(queues=["mail"])
    some = await stubs.tasks.CountTasks(messages.CountTasksRequest(filter=mail, most=3))
    assert (some.count, some.more, some.HasField("looked_back_to")) == (3, True, True)
    all_of_them = await stubs.tasks.CountTasks(messages.CountTasksRequest(filter=mail))
    assert (all_of_them.count, all_of_them.more, all_of_them.HasField("looked_back_to")) == (5, False, False)
    too_many = messages.CountTasksRequest(filter=mail, most=10_001)
    assert await reason_of(stubs.tasks.CountTasks(too_many)) == "INVALID_FIELD"


async def test_a_filter_that_fits_none_of_very_many_tasks_answers_in_bounded_looks(
    database: Database, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement looks at more than a bounded number of rows, and a page ends by its time."""
    lane = await seed.lane("mail", "send")
    await seed.lane("mail", "never")
    await seed.execute(
        "insert into task (id, lane, rank, max_retries, digest, payload, labels)"
        " select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint - n / 10), 12, '0')"
        " || '7000800000' || lpad(to_hex(n), 10, '0'))::uuid, $1, 5, 0, 0, '', $3"
        " from generate_series(1, $2::integer) n",
        lane,
        MANY,
        '{"tenant": "7"}',
    )
    looks: list[int] = []
    fetch = database.fetch

    async def counted(sql: str, *args: Any, **more: Any) -> Any:
        if "looked as materialized" in sql:
            looks.append(args[3])
        return await fetch(sql, *args, **more)

    monkeypatch.setattr(database, "fetch", counted)
    lists = TaskLists(database)
    for nothing in (
        Selection(names=("never",)),
        Selection(labels=(("tenant", "8"),)),
        Selection(labels=(("tenant", "7"),), states=frozenset({TaskState.FAILED})),
    ):
        assert await everything(lists, nothing, size=50) == []
    assert max(looks) <= 50_000
    monkeypatch.setattr(listing, "_TIME_BUDGET_S", 0.0)
    page = await lists.page(Selection(names=("never",)), None, 50)
    assert page.tasks == []
    assert page.before is not None
    looks.clear()
    monkeypatch.setattr(listing, "_TIME_BUDGET_S", 60.0)
    assert await everything(lists, Selection(labels=(("tenant", "8"),)), size=50) == []
    assert sum(looks) < MANY  # the index of labels said so, and nothing walked to the end
