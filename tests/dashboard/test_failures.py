"""Failures by their kind, what a person is offered, and what pages show as soon as they know it."""

import html
import re
from typing import Any

import grpc

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.render.values import query
from hyrex.transport.failures import kinds_of
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from tests.dashboard.shop import TOKEN, Reader, Shop, attribute, sign_in, unique
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker
from tests.support.tokens import bearer, made_by


def failed(shop: Shop, text: str) -> str:
    """A task that has failed with this text."""
    return shop.ended(shop.send("fail_with", b'{"text": "%s"}' % text.encode(), queue="reports")).task_id


def test_failures_of_one_kind_are_one_line_that_leads_to_them_and_retries_them(
    shop: Shop, reader: Reader
) -> None:
    ids = {failed(shop, "first"), failed(shop, "second")}
    refused = shop.ended(shop.send("send_welcome", b'{"to": "x.bad"}', queue="mail")).task_id
    eventually(lambda: "</b> second</span>" in reader.text("/failures"), 60, every_s=0.5)
    page = reader.text("/failures")
    assert "mx1.example.org" in page
    line = "name:fail_with status:failed error:NonRetryable newer:1d"
    link = "/tasks" + query(filter=line)
    assert page.count(f'class="kind-link" href="{link}"') == 1
    assert f'href="{link}"' in reader.text("/")
    listed = reader.text(link)
    shown = set(re.findall(r'id="t-([0-9a-f-]+)"', listed))
    assert shown >= ids
    assert refused not in shown
    assert f"{len(shown)} tasks match" in listed
    address = attribute(page, rf'href="(/tasks/all/retry{re.escape(query(filter=line))})"')
    assert f"Retry {len(shown)} tasks?" in reader.text(address)
    assert f'href="{address}"' in reader.text("/task", id=ids.pop())
    assert refused in page, "the newest of its kind"
    completed = {"text": "error:NonRetryable", "kind": "error"}
    eventually(lambda: completed in reader.get("/complete", text="error:nonr").json(), 60, every_s=0.5)


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
        ("12", 1, "message 12", "name:b status:failed error:X newer:1d"),
        ("9", 2, "message 9", "name:a status:failed error:X newer:1d"),
        ("7", 1, "its worker was lost", "name:a status:lost newer:1d"),
        ("5", 1, "message 5", "name:a status:failed error:Y newer:1d"),
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
    offered = {}
    for who, secret in (("root", TOKEN), ("sue", submits), ("ann", reads)):
        assert sign_in(stranger, secret) == 303
        addresses = ("/task" + query(id=task.task_id), "/queue?name=mail", "/tasks")
        pages = [stranger.text(address) for address in addresses]
        eventually(lambda who=who: f'title="{who}: ' in stranger.text("/tasks"), 60)  # type: ignore[misc]
        pages = [stranger.text(address) for address in addresses]
        offered[who] = [len(re.findall("data-ask", page)) for page in pages]
    assert offered == {"root": [1, 3, 4], "sue": [1, 0, 2], "ann": [0, 0, 0]}
