"""Who comes in: by a token, kept in a cookie, for as long as the session lasts."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import pytest

from hyrex.dashboard import live
from hyrex.dashboard.access.session import SESSION_S, BrowserSession, Cookies
from hyrex.dashboard.app import make_app
from hyrex.dashboard.live import LivePages, PageLook
from hyrex.dashboard.options import DashboardOptions
from hyrex.dashboard.pages.screens import ACTIONS, SCREENS
from tests.dashboard.shop import HERE, TOKEN, Reader, sign_in
from tests.support.processes import RunningBroker


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
    async with asyncio.timeout(60), aclosing(pages.follow(TOKEN, "/", time.time() + 60)) as before:
        while "private" not in await anext(before):
            pass
        after = [each async for each in pages.follow(TOKEN, "/", time.time() - 2)]
    assert [json.loads(each.removeprefix("data: ")) for each in after] == [{"state": "ended", "regions": {}}]


@pytest.mark.parametrize("bound", ["MOST_PAGES", "MOST_VIEWERS"])
async def test_one_token_leaves_as_many_live_pages_to_others_as_it_has(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    async def look(token: str | None, address: str) -> PageLook:
        return PageLook("live", {})

    monkeypatch.setattr(live, bound, 4)
    pages = LivePages(look)
    opened: list[AsyncGenerator[str, None]] = []
    async with asyncio.timeout(60), AsyncExitStack() as open_streams:

        async def opens(token: str | None) -> bool:
            if pages.full_for(token):
                return False
            events = pages.follow(token, f"/tasks?page={len(opened)}", time.time() + 60)
            opened.append(await open_streams.enter_async_context(aclosing(events)))
            await anext(opened[-1])
            return True

        assert [await opens("mine") for _ in range(4)] == [True, True, False, False]
        assert [await opens("yours") for _ in range(2)] == [True, False]
        await opened[0].aclose()
        assert [await opens("theirs"), await opens("theirs"), await opens("yours")] == [True, False, False]
    async with asyncio.timeout(60), AsyncExitStack() as open_streams:
        assert [await opens(None) for _ in range(5)] == [True, True, True, True, False]


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
