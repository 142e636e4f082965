"""What a person sees and does is what the token may."""

from typing import Any

import grpc

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.app import make_app
from hyrex.dashboard.options import DashboardOptions
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from tests.dashboard.shop import TOKEN, Reader, sign_in
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker
from tests.support.tokens import bearer, made_by


def test_a_person_with_some_of_the_queues_has_an_overview_of_these(
    guarded: RunningBroker, stranger: Reader
) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        secret = made_by(channel, TOKEN, "bea", "read", "bea.*")
    assert sign_in(stranger, secret) == 303
    shown = stranger.text("/")
    assert "Your token is for some of the queues" in shown
    assert "Failures among tasks sent in the last 24 hours" in shown
    assert 'class="charts"' not in shown


def test_a_person_sees_and_does_what_the_token_may_until_it_is_revoked(
    guarded: RunningBroker, stranger: Reader
) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        secret = made_by(channel, TOKEN, "ada", "read")
        stub: Any = TaskServiceStub(channel)
        task = task_pb2.NewTask(task_id=new_task_id(), name="greet", queue="mail", payload=b'{"pin": 4711}')
        stub.SubmitTasks(
            task_service_pb2.SubmitTasksRequest(tasks=[task]), metadata=bearer(TOKEN), timeout=60
        )
        assert sign_in(stranger, secret) == 303
        shown = stranger.text("/task", id=task.task_id, tab="payload")
        assert "no right to payloads" in shown
        assert "4711" not in shown
        for untrue in ("without arguments", "hyrex task send", "greet.send()"):
            assert untrue not in shown, "what is hidden must not look like nothing"
        shown = stranger.text("/task", id=task.task_id, tab="result")
        assert "returned nothing" not in shown
        assert stranger.get("/tokens").status_code == 403
        address = "/queue/pause?name=mail"
        assert stranger.post(address, {"csrf": stranger.csrf(address)}).status_code == 403
        with Reader(make_app(DashboardOptions(guarded.url))) as admin:
            assert sign_in(admin) == 303
            assert "ada" in admin.text("/tokens")
            assert admin.act("/token/revoke?name=ada", typed="ada") == "ada is revoked."
            assert "token.revoke" in admin.text("/audit")
    eventually(lambda: stranger.get("/queues").status_code == 303, 60)
    assert stranger.get("/queues").headers["location"].startswith("/sign-in")


def test_a_task_whose_payload_is_hidden_is_not_sent_again_without_it(
    guarded: RunningBroker, stranger: Reader
) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        secret = made_by(channel, TOKEN, "clerk", "read submit")
        stub: Any = TaskServiceStub(channel)
        task = task_pb2.NewTask(task_id=new_task_id(), name="pay", queue="mail", payload=b'{"pin": 4711}')
        stub.SubmitTasks(
            task_service_pb2.SubmitTasksRequest(tasks=[task]), metadata=bearer(TOKEN), timeout=60
        )
    assert sign_in(stranger, secret) == 303
    address = f"/task/replay?id={task.task_id}"
    assert "no right to payloads" in stranger.text(address, 400)
    form = {"csrf": stranger.csrf("/"), "payload": "{}"}
    assert stranger.post(address, form).status_code == 400
    assert stranger.text("/tasks", filter="name:pay").count('id="t-') == 1
