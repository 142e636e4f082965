"""The dashboard in a real Chromium: how its pages look, at a desk and on a phone, whatever users wrote.

Skipped where there is no Chromium; `.ci/run` installs it where it can.
"""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from hyrex.dashboard.pages.screens import ACTIONS
from hyrex.dashboard.render.values import query
from tests.dashboard.chromium import Browsed, Theme, confirm
from tests.dashboard.flows import send_flow

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e ../../etc?a=b&c#d '; DROP"
SCREENS = (
    "/", "/queues", "/tasks", "/workflows", "/failures", "/schedules", "/outbox", "/workers", "/brokers",
    "/operations", "/tokens", "/audit",
)  # fmt: skip
JUDGE = (Path(__file__).parent / "judge.js").read_text(encoding="utf-8")


def test_nothing_that_users_wrote_runs_anywhere(browsed: Browsed, page: Page) -> None:
    """Names, labels, headers, payloads and errors; the fixture fails on a dialog, an error or a request."""
    shop = browsed.shop
    payload = b'{"text": "</script><script>alert(3)</script>"}'
    ids = [
        shop.send(HOSTILE, payload, queue=HOSTILE, labels={HOSTILE: HOSTILE}, headers={HOSTILE: HOSTILE}),
        shop.ended(shop.send("fail_with", payload, queue="reports")).task_id,
    ]
    for address in (*SCREENS, "/queue" + query(name=HOSTILE), "/tasks" + query(filter='name:"><b>"')):
        page.goto(address)
    for task_id in ids:
        for tab in ("runs", "log", "payload", "tree", "details"):
            page.goto("/task" + query(id=task_id, tab=tab))
            expect(page.locator("live-state")).to_have_attribute("data-state", "live", timeout=60_000)
    for path in ACTIONS:
        if path.startswith("/queue/"):
            page.goto(path + query(name=HOSTILE))
    page.goto("/queues")
    page.get_by_role("link", name="<script>alert(1)</script>").first.click()
    page.get_by_role("link", name="Pause").click()
    confirm(page, "Pause")
    assert page.evaluate("document.querySelectorAll('main img, main script, main iframe').length") == 0


def test_on_a_phone_nothing_is_cut_off_and_all_is_large_enough(browsed: Browsed, phone: Page) -> None:
    shop = browsed.shop
    task_id = shop.send(HOSTILE, queue=HOSTILE, labels={"tenant": "7"})
    flow = send_flow(shop, {HOSTILE: [], **{f"{at} {HOSTILE}": [HOSTILE] for at in range(9)}}, {})
    flows = ["/workflow" + query(id=flow[""], node=node) for node in ("", flow[HOSTILE])]
    for address in (*SCREENS, "/queue" + query(name=HOSTILE), "/task" + query(id=task_id), *flows):
        phone.goto(address)
        wide = phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{address} is {wide} px too wide"
        small = phone.evaluate(JUDGE + "; smallTargets()")
        assert small == [], address


def test_on_a_phone_every_screen_is_reached_from_its_foot(phone: Page) -> None:
    phone.goto("/")
    for name in ("Queues", "Tasks", "Failures", "Overview"):
        phone.locator(".rail").get_by_role("link", name=name).click()
        expect(phone.locator(".rail [aria-current]")).to_contain_text(name)
    for name in ("Workers", "Brokers", "Bulk", "Tokens", "Audit"):
        phone.locator(".rail").get_by_role("button", name="More").click()
        phone.locator("#others").get_by_role("link", name=name).click()
        expect(phone.locator("#others")).not_to_be_visible()
        assert phone.evaluate("document.querySelector('.rail').scrollWidth") <= 390


def test_on_the_narrowest_phone_the_command_of_an_empty_page_fits(phone: Page) -> None:
    phone.set_viewport_size({"width": 320, "height": 640})
    phone.goto("/tokens")
    expect(phone.locator(".empty code")).to_contain_text("hyrex token create")
    wide = phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{wide} px too wide"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_enough_contrast(browsed: Browsed, theme: Theme) -> None:
    """WCAG AA: 4.5 to 1, or 3 to 1 for large text."""
    failed = browsed.shop.ended(browsed.shop.send("fail_with", b'{"text": "x"}', queue="reports")).task_id
    flow = send_flow(browsed.shop, {"a": [], "b": ["a"]}, {})["b"]
    with browsed.page(theme=theme) as page:
        pages = [
            "/workflow" + query(id=flow),
            *("/task" + query(id=failed, tab=tab) for tab in ("", "payload")),
        ]
        for address in (*SCREENS, *pages, "/tasks/cancel" + query(id=failed)):
            page.goto(address)
            assert page.evaluate(JUDGE + "; weakTexts()") == [], address


def test_every_control_has_a_name(page: Page) -> None:
    for address in SCREENS:
        page.goto(address)
        assert page.evaluate(JUDGE + "; namelessControls()") == [], address
