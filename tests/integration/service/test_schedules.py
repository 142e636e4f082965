"""ScheduleService over a real channel: what it stores, shows and refuses, and to whom."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.v1 import admin_service_pb2, task_pb2
from hyrex.v1 import schedule_service_pb2 as pb
from hyrex.v1.schedule_pb2 import CATCH_UP_ALL, ScheduleDefinition
from hyrex_broker.storage.statements import load
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import ROOT, Stubs, reason_of

HOUR = timedelta(hours=1)
SCOPES = [admin_service_pb2.TOKEN_SCOPE_SUBMIT, admin_service_pb2.TOKEN_SCOPE_READ]


def definition(name: str = "nightly", cron: str = "0 * * * *", **changes: Any) -> ScheduleDefinition:
    task = changes.pop("task", {})
    wanted = task_pb2.NewTask(**({"name": "report", "queue": "mail", "payload": b"{}"} | task))
    return ScheduleDefinition(name=name, cron=cron, task=wanted, **changes)


async def put(stubs: Stubs, *args: Any, **changes: Any) -> pb.PutScheduleResponse:
    request = pb.PutScheduleRequest(definition=definition(*args, **changes))
    answer: pb.PutScheduleResponse = await stubs.schedules.PutSchedule(request)
    return answer


async def get(stubs: Stubs, name: str = "nightly") -> pb.GetScheduleResponse:
    answer: pb.GetScheduleResponse = await stubs.schedules.GetSchedule(pb.GetScheduleRequest(name=name))
    return answer


async def test_a_schedule_is_stored_shown_changed_and_removed(stubs: Stubs) -> None:
    stored = await put(
        stubs,
        cron="0 0 29 2 *",
        timezone="Europe/Berlin",
        catch_up=CATCH_UP_ALL,
        jitter=Duration(seconds=30),
        task={"priority": 9, "max_retries": 2, "timeout": Duration(seconds=5), "labels": {"a": "b"}},
    )
    assert stored.changed
    assert (await get(stubs)).schedule == stored.schedule
    shown = stored.schedule
    assert (shown.definition.task.priority, shown.definition.task.max_retries) == (9, 2)
    assert shown.definition.task.labels == {"a": "b"}
    assert (shown.definition.timezone, shown.definition.catch_up) == ("Europe/Berlin", CATCH_UP_ALL)
    assert shown.source == pb.SCHEDULE_SOURCE_OPERATOR
    assert len(shown.next_slots) == 3
    assert shown.next_slots[0] == shown.next_at
    assert (await put(stubs, cron="5 * * * *")).schedule.next_at.ToDatetime().minute == 5
    assert not (await put(stubs, cron="5 * * * *")).changed
    await stubs.schedules.DeleteSchedule(pb.DeleteScheduleRequest(name="nightly"))
    assert (
        await reason_of(stubs.schedules.GetSchedule(pb.GetScheduleRequest(name="nightly")))
        == "PEER_NOT_FOUND"
    )


async def test_schedules_are_listed_page_by_page(stubs: Stubs) -> None:
    for name in ("b", "c", "a"):
        await put(stubs, name)
    first = await stubs.schedules.ListSchedules(pb.ListSchedulesRequest(page_size=2))
    request = pb.ListSchedulesRequest(page_size=2, page_token=first.next_page_token)
    second = await stubs.schedules.ListSchedules(request)
    names = [[each.definition.name for each in page.schedules] for page in (first, second)]
    assert names == [["a", "b"], ["c"]]
    assert not second.next_page_token
    assert not first.schedules[0].definition.task.payload


async def test_what_code_says_does_not_change_what_an_operator_wrote(stubs: Stubs) -> None:
    request = pb.PutScheduleRequest(definition=definition(), from_code=True)
    assert (await stubs.schedules.PutSchedule(request)).schedule.source == pb.SCHEDULE_SOURCE_CODE
    await put(stubs, cron="7 * * * *")
    answer = await stubs.schedules.PutSchedule(request)
    assert (answer.changed, answer.schedule.definition.cron) == (False, "7 * * * *")


async def test_a_paused_schedule_says_so_and_goes_on(stubs: Stubs) -> None:
    await put(stubs)
    request = pb.PauseScheduleRequest(name="nightly")
    paused = (await stubs.schedules.PauseSchedule(request)).schedule
    assert (paused.paused, len(paused.next_slots)) == (True, 0)
    assert (await put(stubs, cron="7 * * * *")).schedule.paused
    resumed = (
        await stubs.schedules.PauseSchedule(pb.PauseScheduleRequest(name="nightly", resume=True))
    ).schedule
    assert (resumed.paused, len(resumed.next_slots)) == (False, 3)


async def test_a_trigger_stores_one_task_however_often_it_is_repeated(stubs: Stubs, seed: Seed) -> None:
    await put(stubs)
    request = pb.TriggerScheduleRequest(name="nightly", task_id=make_id())
    for _ in range(3):
        assert (await stubs.schedules.TriggerSchedule(request)).task_id == request.task_id
    await stubs.schedules.TriggerSchedule(pb.TriggerScheduleRequest(name="nightly"))
    assert await seed.execute("select count(*) from ready") == 2
    assert len(stubs.recorded.woken) == 2
    slots = (await get(stubs)).slots
    assert [(slot.cause, slot.status) for slot in slots] == [
        (pb.SLOT_CAUSE_TRIGGER, task_pb2.TASK_STATUS_QUEUED)
    ] * 2
    assert slots[1].task_id == request.task_id
    other = await seed.ready(await seed.task())
    taken = pb.TriggerScheduleRequest(name="nightly", task_id=other)
    assert await reason_of(stubs.schedules.TriggerSchedule(taken)) == "TASK_ID_CONFLICT"


async def test_a_backfill_stores_what_has_passed_once_and_a_dry_run_nothing(stubs: Stubs, seed: Seed) -> None:
    await put(stubs)
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR
    times: dict[str, Any] = {"from": last - 4 * HOUR, "until": last}
    dry = await stubs.schedules.BackfillSchedule(
        pb.BackfillScheduleRequest(name="nightly", dry_run=True, **times)
    )
    assert (dry.stored, [slot.task_id for slot in dry.slots]) == (4, [""] * 4)
    assert await seed.execute("select count(*) from task") == 0
    made = await stubs.schedules.BackfillSchedule(pb.BackfillScheduleRequest(name="nightly", **times))
    assert made.stored == 4
    assert [slot.slot_at.ToDatetime(tzinfo=UTC) for slot in made.slots] == [
        last - n * HOUR for n in (4, 3, 2, 1)
    ]
    more = pb.BackfillScheduleRequest(name="nightly", **(times | {"from": last - 5 * HOUR}))
    again = await stubs.schedules.BackfillSchedule(more)
    assert again.stored == 1
    assert list(again.slots)[1:] == list(made.slots)
    assert await seed.execute("select count(*) from ready") == 5
    found = await seed.rows("select headers->>'hyrex-scheduled-for' from task")
    assert {row[0] for row in found} == {
        (last - n * HOUR).strftime("%Y-%m-%dT%H:%M:%S.%fZ") for n in range(1, 6)
    }


async def test_slots_of_which_is_forgotten_that_they_had_their_tasks_are_not_filled_again(
    stubs: Stubs, seed: Seed
) -> None:
    await put(stubs)
    last = datetime(2026, 3, 1, tzinfo=UTC)

    def backfill(first: datetime, until: datetime) -> Any:
        times: dict[str, Any] = {"from": first, "until": until}
        return stubs.schedules.BackfillSchedule(pb.BackfillScheduleRequest(name="nightly", **times))

    assert (await backfill(last - 4 * HOUR, last)).stored == 4
    assert (await backfill(last - 4 * HOUR, last)).stored == 0
    await seed.execute("update schedule_slot set stored_at = now() - interval '8 days'")
    assert await seed.execute(load("schedules")["forget"], timedelta(days=7), 1000) == 4
    with pytest.raises(grpc.aio.AioRpcError, match="must be after 2026-02-28T23:00:00"):
        await backfill(last - 4 * HOUR, last + HOUR)
    assert (await backfill(last, last + HOUR)).stored == 1
    assert await seed.execute("select count(*) from task") == 5


BAD: list[tuple[str, ScheduleDefinition]] = [
    ("definition.cron", definition(cron="1--100000000 * * * *")),
    ("definition.cron", definition(cron="0 0 30 2 *")),
    ("definition.timezone", definition(timezone="Mars/Base")),
    ("definition.name", definition(name="")),
    ("definition.name", definition(name="x" * 256)),
    ("definition.task.name", definition(task={"name": ""})),
    ("definition.task.queue", definition(task={"queue": "a\0"})),
    ("definition.task.task_id", definition(task={"task_id": make_id()})),
    ("definition.task.idempotency_key", definition(task={"idempotency_key": "k"})),
    ("definition.task.parent_id", definition(task={"parent_id": make_id()})),
    ("definition.task.delay", definition(task={"delay": Duration(seconds=1)})),
    ("priority", definition(task={"priority": 11})),
    ("definition.task.labels", definition(task={"labels": {"a": "x" * (65_536 - 1 - 14 - 7 + 1)}})),
    ("definition.task.headers", definition(task={"headers": {"a": "x" * (65_536 - 1 - 19 - 27 + 1)}})),
    ("headers['']", definition(task={"headers": {"": "x"}})),
    ("definition.jitter", definition(jitter=Duration(seconds=86_401))),
    ("definition.jitter", definition(jitter=Duration(seconds=-1))),
    ("definition.jitter", definition(cron="0,5 9 * * *", jitter=Duration(seconds=299, nanos=1))),
    ("definition.catch_up", definition(catch_up=9)),
]


async def test_each_bad_field_is_named(stubs: Stubs) -> None:
    for field, wanted in BAD:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.schedules.PutSchedule(pb.PutScheduleRequest(definition=wanted))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(caught.value.details()).startswith(f"{field} = "), caught.value.details()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"debounce_key": "k"}, "task.debounce_key = 'k': must stay empty"),
        ({"max_per_key": 2}, "max_per_key = 2: is for tasks with a concurrency_key"),
        ({"concurrency_key": "k" * 256}, "task.concurrency_key = .*255 bytes"),
        ({"fair_key": "k" * 256}, "task.fair_key = .*255 bytes"),
        ({"concurrency_key": "k", "max_per_key": 1001}, "max_per_key = 1001: must lie between 0 and 1000"),
    ],
)
async def test_keys_that_tasks_of_a_schedule_cannot_have_are_refused(
    stubs: Stubs, said: dict[str, Any], words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await stubs.schedules.PutSchedule(pb.PutScheduleRequest(definition=definition(task=said)))
    assert not (await stubs.schedules.ListSchedules(pb.ListSchedulesRequest())).schedules


async def test_keys_of_a_schedule_are_stored_and_shown(stubs: Stubs) -> None:
    keys: dict[str, Any] = {
        "concurrency_key": "k", "max_per_key": 2, "on_full": task_pb2.ON_FULL_REFUSE, "fair_key": "ada",
    }  # fmt: skip
    answer = await stubs.schedules.PutSchedule(pb.PutScheduleRequest(definition=definition(task=keys)))
    shown = answer.schedule.definition.task
    assert {name: getattr(shown, name) for name in keys} == keys


async def test_bad_bounds_of_a_backfill_are_refused(stubs: Stubs) -> None:
    await put(stubs, cron="* * * * *")
    now = datetime.now(UTC)

    def asked(**times: Any) -> Any:
        return stubs.schedules.BackfillSchedule(pb.BackfillScheduleRequest(name="nightly", **times))

    assert await reason_of(asked(**{"from": now - HOUR, "until": now + HOUR})) == "INVALID_FIELD"
    assert await reason_of(asked(**{"from": now - HOUR, "until": now - 2 * HOUR})) == "INVALID_FIELD"
    assert await reason_of(asked(**{"from": now - 24 * HOUR})) == "TOO_MANY_ITEMS"
    assert await reason_of(asked(**{"from": Timestamp(seconds=-1)})) == "INVALID_FIELD"


CALLS: list[tuple[str, Callable[[], Any]]] = [
    ("PutSchedule", lambda: pb.PutScheduleRequest(definition=definition())),
    ("PauseSchedule", lambda: pb.PauseScheduleRequest(name="nightly")),
    ("TriggerSchedule", lambda: pb.TriggerScheduleRequest(name="nightly")),
    (
        "BackfillSchedule",
        lambda: pb.BackfillScheduleRequest(name="nightly"),
    ),
    ("DeleteSchedule", lambda: pb.DeleteScheduleRequest(name="nightly")),
    ("GetSchedule", lambda: pb.GetScheduleRequest(name="nightly")),
]


async def test_a_right_is_checked_for_the_queue_of_the_tasks(guarded: Stubs) -> None:
    """Rule 39."""
    root = {"metadata": (("authorization", f"Bearer {ROOT}"),)}
    made = await guarded.admin.CreateToken(
        admin_service_pb2.CreateTokenRequest(name="other", scopes=SCOPES, queue_patterns=["other"]),
        **root,
    )
    other = {"metadata": (("authorization", f"Bearer {made.secret}"),)}
    await guarded.schedules.PutSchedule(pb.PutScheduleRequest(definition=definition()), **root)
    for name, request in CALLS:
        reason = await reason_of(getattr(guarded.schedules, name)(request(), **other))
        assert reason == ("RIGHT_MISSING" if name == "PutSchedule" else "PEER_NOT_FOUND"), name
    mine = pb.PutScheduleRequest(definition=definition(task={"queue": "other"}))
    assert await reason_of(guarded.schedules.PutSchedule(mine, **other)) == "RIGHT_MISSING"
    assert not (await guarded.schedules.ListSchedules(pb.ListSchedulesRequest(), **other)).schedules
    mine.definition.name = "mine"
    shown = (await guarded.schedules.PutSchedule(mine, **other)).schedule
    assert not shown.definition.task.payload  # without the scope `payload`


async def test_what_is_done_to_schedules_is_recorded(stubs: Stubs, seed: Seed) -> None:
    await put(stubs)
    await stubs.schedules.PauseSchedule(pb.PauseScheduleRequest(name="nightly"))
    await stubs.schedules.TriggerSchedule(pb.TriggerScheduleRequest(name="nightly"))
    await stubs.schedules.DeleteSchedule(pb.DeleteScheduleRequest(name="nightly"))
    rows = await seed.rows("select action, object from audit order by id")
    assert [tuple(row) for row in rows] == [
        (f"schedule.{action}", "nightly") for action in ("put", "pause", "trigger", "delete")
    ]
