"""The doors that must be shut: foreign hosts, foreign pages, no token, a wrong one, forged forms."""

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.__main__ import main
from hyrex.dashboard.access.session import SESSION_S, BrowserSession, Cookies
from hyrex.dashboard.app import make_app
from hyrex.dashboard.live import LivePages, PageLook
from hyrex.dashboard.options import DashboardOptions, OptionsUnusable, checked
from hyrex.dashboard.pages.screens import ACTIONS, SCREENS
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from tests.dashboard.shop import HERE, Reader
from tests.support.eventually import eventually
from tests.support.postgres import copied_database
from tests.support.processes import Processes, RunningBroker
from tests.support.tokens import bearer, made_by

TOKEN = "hyrex-test-token-of-the-dashboard"
COOKIE = "hyrex-8787"


@pytest.fixture(scope="module")
def guarded(postgres_url: str, template_database: str) -> Iterator[RunningBroker]:
    """A broker that wants a token; the tests here change nothing that others look at."""
    processes = Processes()
    with copied_database(postgres_url, template_database, f"hyrex_doors_{os.getpid()}") as url:
        try:
            yield processes.broker(url, env={"HYREX_TOKEN": TOKEN})
        finally:
            processes.end()


@pytest.fixture
def stranger(guarded: RunningBroker) -> Iterator[Reader]:
    """A browser at its dashboard, not signed in."""
    with Reader(make_app(DashboardOptions(guarded.url))) as reader:
        yield reader


@pytest.fixture
def nobody() -> Iterator[Reader]:
    """A browser at a dashboard whose broker is away."""
    with Reader(make_app(DashboardOptions("grpc://127.0.0.1:1"))) as reader:
        yield reader


def sign_in(reader: Reader, token: str = TOKEN) -> int:
    status: int = reader.post("/sign-in", {"token": token}).status_code
    return status


def test_without_a_token_nothing_is_shown_and_nothing_is_done(stranger: Reader) -> None:
    for address in SCREENS:
        answer = stranger.get(address)
        assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in")
    for address in ACTIONS:
        assert stranger.get(f"{address}?name=x").status_code == 303
        assert stranger.post(f"{address}?name=x", {"csrf": "x"}).status_code == 403
    assert stranger.get("/live", of="/").status_code == 401
    assert stranger.get("/complete", text="a").status_code == 401


def test_the_right_token_opens_and_a_wrong_one_does_not(stranger: Reader) -> None:
    assert sign_in(stranger, "wrong") == 403
    assert stranger.get("/").status_code == 303
    assert sign_in(stranger, "") == 403
    assert sign_in(stranger, "ключ\x00") == 403
    assert sign_in(stranger) == 303
    assert stranger.get("/").status_code == 200


def test_a_token_is_not_sent_on_over_a_network_in_the_clear(guarded: RunningBroker) -> None:
    """The first broker knows it; but calls go to the others as well."""
    with Reader(make_app(DashboardOptions(f"{guarded.url},grpc://broker.example:50051"))) as reader:
        answer = reader.post("/sign-in", {"token": TOKEN})
        assert "would cross the network unencrypted to grpc://broker.example:50051" in answer.text
        assert (answer.status_code, "set-cookie" in answer.headers) == (400, False)


def test_after_signing_out_the_page_is_closed(stranger: Reader) -> None:
    sign_in(stranger)
    csrf = stranger.csrf("/")
    assert stranger.post("/sign-out", {"csrf": "forged"}).status_code == 403
    assert stranger.get("/").status_code == 200
    assert stranger.post("/sign-out", {"csrf": csrf}).status_code == 303
    assert stranger.get("/").status_code == 303


def test_the_cookie_is_hidden_from_scripts_and_other_sites_and_tells_nothing(stranger: Reader) -> None:
    answer = stranger.post("/sign-in", {"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie, "by plain HTTP on loopback it would be lost"
    assert TOKEN not in cookie


def test_behind_tls_the_cookie_is_sent_by_tls_alone(guarded: RunningBroker) -> None:
    behind = DashboardOptions(guarded.url, behind_https=True)
    with Reader(make_app(behind), "https://localhost:8787") as reader:
        answer = reader.post("/sign-in", {"token": TOKEN})
        assert "Secure" in answer.headers["set-cookie"]
        assert "max-age=" in answer.headers["strict-transport-security"]
        assert reader.post("/sign-in", {}, origin="http://localhost:8787").status_code == 403


def test_a_cookie_of_another_key_or_changed_or_old_is_none() -> None:
    sessions, others = Cookies("a" * 32), Cookies("b" * 32)
    cookie = sessions.encrypt(BrowserSession.begin(TOKEN))
    assert sessions.open(cookie) is not None
    assert Cookies("a" * 32).open(cookie) is not None, "dashboards that share a key share sessions"
    changed = cookie[:40] + ("A" if cookie[40] != "A" else "B") + cookie[41:]
    words = sessions.encrypt_words("done")
    for forged in (others.encrypt(BrowserSession.begin(TOKEN)), changed, words, "", None, "x" * 9000, "é"):
        assert sessions.open(forged) is None


async def test_a_page_that_stays_open_is_told_no_more_when_its_session_has_ended() -> None:
    async def look(token: str | None, address: str) -> PageLook:
        return PageLook("live", {"live_rows": "private"})

    pages = LivePages(look, period_s=0.01)
    async with asyncio.timeout(60), aclosing(pages.follow(TOKEN, "/", time.time() + 60)) as before:  # type: ignore[type-var]
        while "private" not in await anext(before):
            pass
        after = [each async for each in pages.follow(TOKEN, "/", time.time() - 2)]
    assert [json.loads(each.removeprefix("data: ")) for each in after] == [{"state": "ended", "regions": {}}]


def test_a_session_ends_after_twelve_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Cookies("a" * 32)
    now = time.time()
    cookie = sessions.encrypt(BrowserSession.begin(TOKEN))
    monkeypatch.setattr(time, "time", lambda: now + SESSION_S - 60)
    found = sessions.open(cookie)
    assert found is not None
    assert abs(found.ends_at - now - SESSION_S) < 60, "when it was made counts, not when it was read"
    monkeypatch.setattr(time, "time", lambda: now + SESSION_S + 60)
    assert sessions.open(cookie) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8787",
        "localhost@evil.example",
        "127.0.0.1.nip.io",
        "[::2]:8787",
        "localhost/x",
        "",
        "localhost:x",
        "10.0.0.1:8787",
    ],
)
def test_a_foreign_host_name_is_refused(nobody: Reader, host: str) -> None:
    """DNS rebinding: a page of another site whose name leads here."""
    for address in ("/", "/tasks", "/static/hyrex.css", "/health", "/sign-in"):
        assert nobody.client.get(address, headers={"host": host}).status_code == 421
    assert nobody.client.post("/sign-in", headers={"host": host, "origin": HERE}).status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8787", "127.0.0.1:1", "[::1]:8787", "localhost.:8787"]
)
def test_names_of_this_machine_are_answered(nobody: Reader, host: str) -> None:
    assert nobody.client.get("/health", headers={"host": host}).status_code == 200


def test_a_name_is_answered_once_it_was_given() -> None:
    options = DashboardOptions("grpc://127.0.0.1:1", host="0.0.0.0", host_names=("Tasks.example.org",))
    with Reader(make_app(options)) as reader:
        assert reader.client.get("/health", headers={"host": "tasks.example.org"}).status_code == 200
        assert reader.client.get("/health", headers={"host": "0.0.0.0"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://localhost:8787.evil.example"},
        {"origin": "ftp://localhost:8787"},
        {},
        {"origin": HERE, "sec-fetch-site": "cross-site"},
        {"origin": HERE, "sec-fetch-site": "same-site"},
        {"origin": HERE, "sec-fetch-site": "none"},
    ],
)
def test_a_post_from_elsewhere_is_refused(stranger: Reader, headers: dict[str, str]) -> None:
    sign_in(stranger)
    form = {"csrf": stranger.csrf("/queue/pause?name=x")}
    sent = stranger.client.post("/queue/pause?name=x", data=form, headers=headers)
    assert sent.status_code == 403
    assert "another site" in sent.text
    assert stranger.client.post("/sign-in", data={"token": TOKEN}, headers=headers).status_code == 403


def test_a_post_without_the_tokens_of_its_form_is_refused(stranger: Reader) -> None:
    sign_in(stranger)
    address = "/queue/pause?name=x"
    mine = stranger.csrf(address)
    sign_in(stranger)
    for csrf in ("", "x", mine, mine[:-1]):
        assert stranger.post(address, {"csrf": csrf}).status_code == 403, "also that of another session"
    assert stranger.post(address, {}, content_type="text/plain").status_code == 403
    assert stranger.post(address, {"csrf": stranger.csrf(address)}).status_code == 303


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(nobody: Reader, method: str) -> None:
    assert nobody.client.request(method, "/", headers={"origin": HERE}).status_code == 405


def test_a_form_that_is_too_large_is_refused(nobody: Reader) -> None:
    assert nobody.post("/sign-in", {"token": "x" * 70_000}).status_code == 413
    chunked = nobody.client.post("/sign-in", content=iter([b"token=x"]), headers={"origin": HERE})
    assert chunked.status_code == 413


def test_every_answer_forbids_foreign_content_and_frames(stranger: Reader) -> None:
    for address in ("/", "/sign-in", "/static/hyrex.css", "/nowhere", "/health"):
        headers = stranger.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_no_page_has_a_script_or_a_style_of_its_own(stranger: Reader) -> None:
    sign_in(stranger)
    for address in ("/", "/sign-in", "/tasks", "/queues", "/workers", "/brokers"):
        page = stranger.get(address).text
        assert not re.search(r"\sstyle=|<style|<script>|javascript:", page)


@pytest.mark.parametrize(
    "next_",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/sign-out",
        "/tasks\n",
        "javascript:alert(1)",
        "/../x",
    ],
)
def test_sign_in_leads_to_pages_of_ours_only(stranger: Reader, next_: str) -> None:
    answer = stranger.client.post(
        "/sign-in", params={"next": next_}, data={"token": TOKEN}, headers={"origin": HERE}
    )
    assert answer.headers["location"] == "/"


def test_wrong_tokens_are_counted(stranger: Reader) -> None:
    answers = [sign_in(stranger, f"wrong-{number}") for number in range(25)]
    assert answers[0] == 403
    assert answers[-1] == 429


def test_behind_a_proxy_wrong_tokens_of_one_browser_keep_no_other_out(guarded: RunningBroker) -> None:
    """Each comes from the proxy's address; who connected to the proxy is what it has written last."""
    behind = DashboardOptions(guarded.url, behind_https=True)
    with Reader(make_app(behind), "https://localhost:8787") as reader:
        for number in range(21):
            came = f"192.0.2.{number}, 198.51.100.1"
            answer = reader.post("/sign-in", {"token": f"wrong-{number}"}, x_forwarded_for=came)
        assert answer.status_code == 429
        fine = reader.post("/sign-in", {"token": TOKEN}, x_forwarded_for="198.51.100.1, 198.51.100.2")
        assert fine.status_code == 303


def test_without_a_proxy_nobody_says_where_a_wrong_token_comes_from(stranger: Reader) -> None:
    for number in range(21):
        fields = {"token": f"wrong-{number}"}
        answer = stranger.post("/sign-in", fields, x_forwarded_for=f"192.0.2.{number}")
    assert answer.status_code == 429


def test_a_link_of_another_site_leads_in_by_one_more_request(stranger: Reader) -> None:
    """SameSite=Strict: the browser leaves the cookie out of the first request, not out of the second."""
    page = stranger.client.get("/tasks", headers={"sec-fetch-site": "cross-site"})
    assert (page.status_code, 'http-equiv="refresh"' in page.text) == (200, True)


def test_the_token_is_in_no_address_and_in_no_log(stranger: Reader, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = stranger.post("/sign-in", {"token": TOKEN})
        page = stranger.get("/")
    assert TOKEN not in caplog.text
    assert TOKEN not in page.text
    assert TOKEN not in answer.headers["location"]


def test_off_loopback_an_open_broker_is_not_open_to_all(broker: RunningBroker) -> None:
    options = DashboardOptions(broker.url, host="0.0.0.0", behind_https=True)
    with Reader(make_app(options), "https://localhost:8787") as reader:
        assert reader.get("/").status_code == 303
    with Reader(make_app(DashboardOptions(broker.url))) as reader:
        assert reader.get("/").status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "0.0.0.0"},
        {"host": "192.0.2.7"},
        {"prefix": "hyrex"},
        {"prefix": "/../x"},
        {"host_names": ("https://x",)},
        {"broker_url": "http://x"},
        {"tls_cert": __file__},
    ],
)
def test_unsafe_or_senseless_options_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(OptionsUnusable):
        checked(DashboardOptions(**{"broker_url": "grpc://127.0.0.1:1", **changed}))  # type: ignore[arg-type]


def test_the_command_says_in_one_line_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--listen", "0.0.0.0:8787"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --listen 0.0.0.0:8787 sends tokens and cookies unencrypted")
    assert error.count("\n") == 1


def test_a_person_with_some_of_the_queues_has_an_overview_of_these(
    guarded: RunningBroker, stranger: Reader
) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        secret = made_by(channel, TOKEN, "bea", "read", "bea.*")
    assert sign_in(stranger, secret) == 303
    shown = stranger.text("/")
    assert "Your token is for some of the queues" in shown
    assert "Newest failures" in shown
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
