"""Signed links: a page asks, a form ends the task once, and what is wrong with a link is told to nobody."""

import json
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from hyrex import links
from hyrex.backend.ids import new_task_id
from hyrex.dashboard.__main__ import _parser, options_of
from hyrex.dashboard.app import make_app
from hyrex.dashboard.options import DashboardOptions, OptionsUnusable
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as pb
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from tests.dashboard.shop import HERE, TOKEN, Reader, attribute, sign_in
from tests.support.processes import RunningBroker
from tests.support.tokens import bearer, made_by

KEY = "k" * 32
ELSE = "e" * 32


class Desk:
    """A dashboard that serves links, and tasks that wait for an answer."""

    def __init__(self, broker: RunningBroker, channel: grpc.Channel, reader: Reader) -> None:
        self.stub: Any = TaskServiceStub(channel)
        self.reader = reader
        self.url = broker.url

    def asked(self) -> str:
        task = task_pb2.NewTask(task_id=new_task_id(), name="sign", queue="desk", payload=b"{}", outside=True)
        self.stub.SubmitTasks(pb.SubmitTasksRequest(tasks=[task]), metadata=bearer(TOKEN), timeout=60)
        return task.task_id

    def task(self, task_id: str) -> task_pb2.Task:
        request = pb.GetTaskRequest(task_id=task_id)
        found: task_pb2.Task = self.stub.GetTask(request, metadata=bearer(TOKEN), timeout=60).task
        return found

    def post(self, link: str) -> Any:
        return self.reader.post(links.PATH, {"link": link.partition("link=")[2]})


@pytest.fixture(scope="module")
def complete_only(guarded: RunningBroker) -> str:
    with grpc.insecure_channel(guarded.address) as channel:
        return str(made_by(channel, TOKEN, "links", "complete", "desk"))


@pytest.fixture
def desk(guarded: RunningBroker, complete_only: str) -> Iterator[Desk]:
    options = DashboardOptions(guarded.url, link_keys=(KEY, ELSE), link_token=complete_only)
    with grpc.insecure_channel(guarded.address) as channel, Reader(make_app(options)) as reader:
        yield Desk(guarded, channel, reader)


def made(task_id: str, result: Any = True, **more: Any) -> str:
    return links.link(task_id, result, **{"url": HERE, "key": KEY, **more}).removeprefix(HERE)


def test_a_look_changes_nothing_and_the_form_answers_once(desk: Desk) -> None:
    task_id = desk.asked()
    address = made(task_id, {"by": "ada"}, label="Approve", title="Refund <7>")
    for _ in range(2):
        shown = desk.reader.get(address)
        assert (shown.status_code, shown.headers["referrer-policy"]) == (200, "same-origin")
        assert "Refund &lt;7&gt;" in shown.text
        assert "Approve</button>" in shown.text
        assert desk.reader.client.head(address).status_code == 200
    assert desk.task(task_id).status == task_pb2.TASK_STATUS_BLOCKED
    link = attribute(shown.text, r'name="link" value="([^"]+)"')
    answered = desk.reader.post(links.PATH, {"link": link})
    assert (answered.status_code, "is recorded" in answered.text) == (200, True)
    task = desk.task(task_id)
    assert (task.status, task.runs[0].result) == (task_pb2.TASK_STATUS_COMPLETED, b'{"by":"ada"}')
    assert task.runs[0].reason == "by a link: Approve"
    again = desk.post(made(task_id, False))
    assert (again.status_code, "This has been answered" in again.text) == (409, True)
    assert desk.task(task_id).runs[0].result == b'{"by":"ada"}'


def test_a_link_may_refuse(desk: Desk) -> None:
    task_id = desk.asked()
    assert desk.post(made(task_id, None, error="too dear")).status_code == 200
    error = desk.task(task_id).runs[0].error
    assert (error.type, error.message) == ("Refused", "too dear")


def test_whatever_is_wrong_with_a_link_one_page_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = desk.asked()
    good = made(task_id).partition("link=")[2]
    form, said, signature = good.split(".")
    other = made(desk.asked()).partition("link=")[2].split(".")
    wrong = [
        "", "x", ".", "..", "1..", good[:-1], good + "A", good + "=", good.upper(), "é", "x" * 5000,
        f"2.{said}.{signature}", f"{form}.{other[1]}.{signature}", f"{said}.{signature}",
        made(task_id, key="o" * 32).partition("link=")[2],
        links.link(new_task_id(), True, url=HERE, key=ELSE[::-1] + "x").partition("link=")[2],
    ]  # fmt: skip
    late = made(task_id, expires_in=1)
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 3)
    pages = set()
    for text in [*wrong, late.partition("link=")[2]]:
        desk.reader = Reader(make_app(DashboardOptions(desk.url, link_keys=(KEY,))))  # none has had too many
        answers = desk.reader.get(links.PATH, link=text), desk.reader.post(links.PATH, {"link": text})
        pages |= {(answer.status_code, answer.text) for answer in answers}
    assert len(pages) == 1
    ((status, page),) = pages
    assert (status, "This link cannot be used" in page) == (404, True)
    monkeypatch.undo()
    assert desk.task(task_id).status == task_pb2.TASK_STATUS_BLOCKED


def test_an_unknown_task_is_a_link_that_cannot_be_used_and_one_of_another_queue_too(desk: Desk) -> None:
    wrong = desk.reader.get(links.PATH, link="x")
    assert (answer := desk.post(made(new_task_id()))).status_code == wrong.status_code
    assert answer.text == wrong.text


def test_who_tries_too_often_has_to_wait_and_good_links_of_the_same_address_work(desk: Desk) -> None:
    """An office shares its address; a program there that looks through mails may cut links off."""
    task_id = desk.asked()
    good = made(task_id)
    statuses = [desk.reader.get(links.PATH, link=f"1.x{n}.y").status_code for n in range(25)]
    assert set(statuses[:20]) == {404}
    assert set(statuses[20:]) == {429}
    assert desk.post("link=x").status_code == 429
    assert desk.reader.get(good).status_code == 200
    assert desk.post(good).status_code == 200
    assert desk.task(task_id).status == task_pb2.TASK_STATUS_COMPLETED


def test_a_form_of_another_site_answers_nothing(desk: Desk) -> None:
    task_id = desk.asked()
    fields = {"link": made(task_id).partition("link=")[2]}
    assert desk.reader.post(links.PATH, fields, origin="https://evil.example").status_code == 403
    assert desk.reader.post(links.PATH, fields, sec_fetch_site="cross-site").status_code == 403
    assert desk.task(task_id).status == task_pb2.TASK_STATUS_BLOCKED


def test_a_read_only_dashboard_obeys_no_form_though_its_session_and_its_token_are_good(desk: Desk) -> None:
    """They are those of another dashboard, which shares its sessions and may write."""
    task_id, key = desk.asked(), "s" * 32
    address = f"/task/complete?id={task_id}"
    with (
        Reader(make_app(DashboardOptions(desk.url, key=key))) as writer,
        Reader(make_app(DashboardOptions(desk.url, key=key, read_only=True))) as reader,
    ):
        assert sign_in(writer) == 303
        fields = {"csrf": writer.csrf(address), "result": "true"}
        reader.client.cookies.update(writer.client.cookies)
        answer = reader.post(address, fields)
        assert (answer.status_code, "read-only" in answer.text) == (403, True)
        assert desk.task(task_id).status == task_pb2.TASK_STATUS_BLOCKED
        assert writer.post(address, fields).status_code == 303
    assert desk.task(task_id).status == task_pb2.TASK_STATUS_COMPLETED


@pytest.mark.parametrize("changes", [{"read_only": True}, {"link_keys": ()}])
def test_a_dashboard_serves_links_only_if_it_is_told_to(desk: Desk, changes: dict[str, Any]) -> None:
    options = {"link_keys": (KEY,), **changes}
    with Reader(make_app(DashboardOptions(desk.url, **options))) as reader:
        assert reader.get(made(desk.asked())).status_code == 404


def test_without_a_right_of_the_dashboard_the_answer_says_so(desk: Desk) -> None:
    task_id = desk.asked()
    with Reader(make_app(DashboardOptions(desk.url, link_keys=(KEY,), link_token="wrong"))) as reader:
        answer = reader.post(links.PATH, {"link": made(task_id).partition("link=")[2]})
    assert (answer.status_code, "was not recorded" in answer.text) == (502, True)
    assert "wrong" not in answer.text


def test_while_no_broker_answers_it_is_to_be_tried_again() -> None:
    with Reader(make_app(DashboardOptions("grpc://127.0.0.1:1", link_keys=(KEY,)))) as reader:
        address = made(new_task_id())
        assert reader.get(address).status_code == 200
        answer = reader.post(links.PATH, {"link": address.partition("link=")[2]})
        assert (answer.status_code, "try it again" in answer.text) == (503, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key": "short"}, "at least 32 characters"),
        ({"key": None}, "HYREX_LINK_KEY_FILE"),
        ({"url": "tasks.example.org"}, "the dashboard's own"),
        ({"url": "javascript:alert(1)"}, "the dashboard's own"),
        ({"expires_in": 0}, "between a second and 366 days"),
        ({"expires_in": float("nan")}, "between a second and 366 days"),
        ({"expires_in": timedelta(days=400)}, "between a second and 366 days"),
        ({"result": {1, 2}}, "JSON value"),
        ({"result": float("nan")}, "JSON value"),
        ({"result": "x" * 3000}, "at most 2000"),
        ({"label": "a\0b"}, "printable"),
        ({"title": "x" * 301}, "at most 300"),
        ({"error": "no"}, "not both"),
        ({"result": "\U0001f600" * 1900, "title": "x" * 300}, "more than 4096"),
    ],
)
def test_what_no_link_can_have_is_refused_when_it_is_made(
    given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYREX_LINK_KEY_FILE", raising=False)
    usual: dict[str, Any] = {"url": HERE, "key": KEY, "result": True}
    more = usual | given
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        links.link(new_task_id(), more.pop("result"), **more)
    assert "short" not in str(caught.value)


def test_keys_are_lines_of_a_file_of_which_the_first_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n\n{ELSE}\n")
    assert links.read_keys(file) == (KEY, ELSE)
    monkeypatch.setenv("HYREX_LINK_KEY_FILE", str(file))
    text = links.link(new_task_id(), True, url=f"{HERE}/hyrex/").partition("link=")[2]
    assert links.opened(text, (KEY,)) is not None
    assert links.opened(text, (ELSE,)) is None
    for wrong in ("", "# only\n", "short\n"):
        file.write_text(wrong)
        with pytest.raises(ValueError, match="key"):
            links.read_keys(file)
    with pytest.raises(ValueError, match="cannot be read"):
        links.read_keys(tmp_path / "none")


def test_the_dashboard_is_given_keys_and_token_by_files(tmp_path: Path) -> None:
    keys, token = tmp_path / "keys", tmp_path / "token"
    keys.write_text(f"{KEY}\n")
    token.write_text("secret\n")
    environment = {"HYREX_LINK_KEY_FILE": str(keys), "HYREX_LINK_TOKEN_FILE": str(token)}
    given = _parser().parse_args(["--link-key-file", str(keys), "--link-token-file", str(token)])
    for found in (options_of(given, {}), options_of(_parser().parse_args([]), environment)):
        assert (found.link_keys, found.link_token) == ((KEY,), "secret")
    for file, option in ((keys, "--link-key-file"), (token, "--link-token-file")):
        text = file.read_text()
        for change in (partial(file.write_text, "\n"), file.unlink):
            change()
            with pytest.raises(OptionsUnusable, match=re.escape(f"{option} {file}: ")) as caught:
                options_of(given, {})
            assert str(caught.value).count(option) == 1
        file.write_text(text)


def test_a_person_with_the_scope_answers_on_the_page_of_the_task(desk: Desk) -> None:
    first, second = desk.asked(), desk.asked()
    assert sign_in(desk.reader) == 303
    assert "/task/complete" in desk.reader.text("/task", id=first)
    address = f"/task/complete?id={first}"
    told = desk.reader.act(address, result=json.dumps({"ok": 1}, indent=2), reason="bea")
    assert told == "Answered."
    assert (desk.task(first).runs[0].result, desk.task(first).runs[0].reason) == (b'{"ok":1}', "bea")
    assert "/task/complete" not in desk.reader.text("/task", id=first)
    assert desk.reader.act(address, result="true") == "It had ended already: nothing was changed."
    for wrong in ("NaN", "1e999", "yes", "[" * 20_000):
        fields = {"csrf": desk.reader.csrf(address), "result": wrong}
        assert desk.reader.post(f"/task/complete?id={second}", fields).status_code == 400
    assert desk.reader.act(f"/task/complete?id={second}", result="", error="no") == "Answered."
    assert desk.task(second).runs[0].error.message == "no"
