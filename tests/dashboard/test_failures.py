"""Failures by their kind, what a person is offered, and what pages show as soon as they know it."""

import html
import re
from datetime import UTC, datetime
from typing import Any

import grpc

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.pages.failures import LISTED_KINDS, values_of
from hyrex.dashboard.render.environment import Templates
from hyrex.dashboard.render.values import query
from hyrex.transport.failures import Failures, Kind, kinds_of
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from tests.dashboard.shop import TOKEN, Reader, Shop, at, attribute, sign_in, unique
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker
from tests.support.tokens import bearer, made_by


def failed(shop: Shop, text: str) -> str:
    """A task that has failed with this text; no other test has any of its name."""
    return shop.ended(shop.send("fail_listed", b'{"text": "%s"}' % text.encode(), queue="reports")).task_id


def test_failures_of_one_kind_are_one_line_that_leads_to_them_and_retries_them(
    shop: Shop, reader: Reader
) -> None:
    other = failed(shop, "other")
    ids = [failed(shop, "first"), failed(shop, "second")]
    eventually(lambda: "</b> second</span>" in reader.text("/failures"), 60, every_s=0.5)
    page = reader.text("/failures")
    line = f"name:fail_listed status:failed dead:yes error:NonRetryable {at('fail_listed')} newer:1d"
    link = "/tasks" + query(filter=line)
    assert page.count(f'class="kind-link" href="{link}"') == 1
    assert f'href="{link}"' in reader.text("/")
    listed = reader.text(link)
    assert set(re.findall(r'id="t-([0-9a-f-]+)"', listed)) == set(ids)
    assert "2 tasks match" in listed
    address = attribute(page, rf'href="(/tasks/all/retry{re.escape(query(filter=line))})"')
    assert "Retry 2 tasks?" in reader.text(address)
    assert other in page, "the newest of its kind"
    always = query(filter=line.removesuffix(" newer:1d"))
    assert f'href="/tasks/all/retry{always}"' in reader.text("/task", id=ids[0]), "however old it is"
    completed = {"text": "error:NonRetryable", "kind": "error"}
    eventually(lambda: completed in reader.get("/complete", text="error:nonr").json(), 60, every_s=0.5)


def test_a_dismissed_failure_leaves_the_list_alone_or_with_all_of_its_kind(
    shop: Shop, reader: Reader
) -> None:
    alone = shop.ended(shop.send("fail_dismissed", queue="reports")).task_id
    eventually(lambda: alone in reader.text("/failures"), 60, every_s=0.5)
    assert f'href="/tasks/dismiss?id={alone}"' in reader.text("/task", id=alone)
    assert reader.act(f"/tasks/dismiss?id={alone}") == "1 dismissed."
    assert "/tasks/dismiss" not in reader.text("/task", id=alone)
    eventually(lambda: alone not in reader.text("/failures"), 60, every_s=0.5)
    planted = shop.ended(shop.send("fail_dismissed", queue="reports")).task_id
    eventually(lambda: planted in reader.text("/failures"), 60, every_s=0.5)
    line = f"name:fail_dismissed status:failed dead:yes error:NonRetryable {at('fail_dismissed')} newer:1d"
    address = f"/tasks/all/dismiss{query(filter=line)}"
    assert f'href="{address}"' in html.unescape(reader.text("/failures"))
    reader.act(address)
    eventually(lambda: planted not in reader.text("/failures"), 60, every_s=0.5)


def test_a_kind_whose_name_has_a_star_is_retried_without_the_others(shop: Shop, reader: Reader) -> None:
    """In a filter a star stands for any text, unless a backslash says otherwise."""
    planted = shop.ended(shop.send("fail*", queue="reports")).task_id
    eventually(lambda: planted in reader.text("/failures"), 60, every_s=0.5)
    (row,) = (row for row in reader.text("/failures").split("<tr>") if planted in row)
    line = 'name:"fail\\*" status:failed dead:yes error:NonRetryable ' + at("fail_with_a_star")
    assert "/tasks/all/retry" + query(filter=line + " newer:1d") in html.unescape(row)
    assert "/tasks/all/retry" + query(filter=line) in html.unescape(reader.text("/task", id=planted))
    assert "Retry 1 task?" in reader.text("/tasks/all/retry", filter=line)

    def completed() -> list[str]:
        return [each["text"] for each in reader.get("/complete", text="name:fail").json()]

    eventually(lambda: {"name:fail_listed", 'name:"fail\\*"'} <= set(completed()), 60, every_s=0.5)


def shown_of(kinds: list[Kind], *, more: bool = False) -> str:
    """What the page shows of these kinds."""
    known: dict[str, Any] = {"base": "", "asset": str, "scope_of": {}, "read_only": True}
    found = Failures(kinds, len(kinds), more, datetime(2026, 11, 27, tzinfo=UTC) if more else None)
    return Templates(known).regions("failures.html", values_of(found, LISTED_KINDS))["live_kinds"]


def test_none_found_in_a_part_is_not_said_to_be_none() -> None:
    assert "None of the tasks sent in the last 24 hours" in shown_of([])
    assert "None found so far, looked back to" in shown_of([], more=True)
    assert "2026-11-27 00:00:00" in shown_of([], more=True)


def test_it_is_said_how_many_failures_and_kinds_were_looked_at() -> None:
    tasks = [task_pb2.Task(name=f"n{each}", status=task_pb2.TASK_STATUS_LOST) for each in range(1201)]
    shown = shown_of(kinds_of(tasks), more=True)
    assert "The 200 kinds that failed last are shown, of 1\u202f201+." in shown
    assert "newest 1\u202f201 failures, looked back to" in shown


def test_kinds_differ_by_name_end_and_error_and_the_last_one_comes_first() -> None:
    def task(number: int, name: str, error: str, *, lost: bool = False) -> task_pb2.Task:
        status = task_pb2.TASK_STATUS_LOST if lost else task_pb2.TASK_STATUS_FAILED
        run = task_pb2.TaskRun(reason="its worker was lost")
        if error:
            run.error.CopyFrom(task_pb2.RunError(type=error, message=f"message {number}"))
        run.finished_at.FromSeconds(number)
        return task_pb2.Task(task_id=str(number), name=name, status=status, runs=[run])

    found = kinds_of(
        [
            task(9, "a", "X"),
            task(3, "a", "X"),
            task(5, "a", "Y"),
            task(12, "b", "X"),
            task(7, "a", "", lost=True),
        ]
    )
    told = [(kind.newest.task_id, kind.count, kind.said, kind.line) for kind in found]
    assert told == [
        ("12", 1, "message 12", "name:b status:failed dead:yes error:X newer:1d"),
        ("9", 2, "message 9", "name:a status:failed dead:yes error:X newer:1d"),
        ("7", 1, "its worker was lost", "name:a status:lost dead:yes newer:1d"),
        ("5", 1, "message 5", "name:a status:failed dead:yes error:Y newer:1d"),
    ]
    assert found[1].first.timestamp() == 3


def test_the_list_says_how_many_match(shop: Shop, reader: Reader) -> None:
    name = unique("counted")
    for _ in range(51):
        shop.send(name)
    line = f"name:{name}"
    eventually(lambda: "51 tasks match" in html.unescape(reader.text("/tasks", filter=line)), 60, every_s=0.5)
    assert "51 tasks match" not in reader.text("/tasks")


def test_who_looks_is_named_and_offered_what_the_token_may(guarded: RunningBroker, stranger: Reader) -> None:
    task = task_pb2.NewTask(task_id=new_task_id(), name="greet", queue="mail", payload=b"{}")
    with grpc.insecure_channel(guarded.address) as channel:
        reads, submits = (
            made_by(channel, TOKEN, *each) for each in (("ann", "read"), ("sue", "submit read"))
        )
        stub: Any = TaskServiceStub(channel)
        request = task_service_pb2.SubmitTasksRequest(tasks=[task])
        stub.SubmitTasks(request, metadata=bearer(TOKEN), timeout=60)
    wanted = {"root": [1, 4, 4], "sue": [1, 0, 2], "ann": [0, 0, 0]}
    for who, secret in (("root", TOKEN), ("sue", submits), ("ann", reads)):
        assert sign_in(stranger, secret) == 303
        eventually(lambda who=who: f'title="{who}: ' in stranger.text("/tasks"), 60)  # type: ignore[misc]
        addresses = ("/task" + query(id=task.task_id), "/queue?name=mail", "/tasks?filter=name:greet")

        def offered(addresses: tuple[str, ...] = addresses) -> list[int]:
            return [len(re.findall("data-ask", stranger.text(address))) for address in addresses]

        # A page does not wait for what the token may; it shows all until that is known.
        eventually(lambda who=who, offered=offered: offered() == wanted[who], 60)  # type: ignore[misc]


def test_all_are_cancelled_or_retried_only_where_a_filter_says_which(shop: Shop, reader: Reader) -> None:
    name = unique("all")
    shop.send(name)
    assert "/tasks/all/" not in reader.text("/tasks")
    assert "/tasks/all/cancel" in reader.text("/tasks", filter=f"name:{name}")
