"""The dashboard in a real Chromium, against a live broker and worker: what people do there.

Skipped where there is no Chromium; `.ci/run` installs it where it can.
"""

import re

import grpc
from playwright.sync_api import Page, expect

from hyrex.dashboard.render.values import query
from hyrex.v1 import admin_service_pb2_grpc, task_pb2
from tests.dashboard.chromium import Browsed, confirm
from tests.dashboard.flows import send_flow
from tests.dashboard.shop import at, unique
from tests.support.eventually import eventually
from tests.support.tokens import wanted


def test_every_action_of_a_queue_is_clicked(browsed: Browsed, page: Page) -> None:
    shop, name = browsed.shop, unique("clicked")
    ids = [shop.send("greet", queue=name) for _ in range(2)]
    page.goto("/queues")
    page.get_by_role("link", name=name).click()
    page.get_by_role("link", name="Pause").click()
    confirm(page, "Pause")
    expect(page.locator(".title .status")).to_have_text("paused")
    page.get_by_role("link", name="Resume").click()
    confirm(page, "Resume")
    page.get_by_role("link", name="Limit").click()
    confirm(page, "Set the limit", limit="3")
    expect(page.locator("main > .said")).to_contain_text("at most 3 at once")
    page.get_by_role("link", name="Purge").click()
    page.locator("#question").get_by_role("link", name="Keep as it is").click()
    expect(page.locator("#question")).not_to_be_visible()
    page.get_by_role("link", name="Purge").click()
    confirm(page, "Purge", typed=name)
    expect(page.locator("main > .said")).to_contain_text("2 tasks cancelled")
    assert {shop.task(each).status for each in ids} == {task_pb2.TASK_STATUS_CANCELLED}


def test_every_action_of_a_task_is_clicked(browsed: Browsed, page: Page) -> None:
    shop = browsed.shop
    failed = shop.send("charge_card", b'{"order": 7, "cents": 1}', queue="billing")
    shop.ended(failed)
    page.goto("/task" + query(id=failed))
    expect(page.locator(".error-box")).to_contain_text("the card was declined")
    for tab in ("Log", "Payload", "Result", "Tree", "Details", "Runs"):
        page.locator(".tabs").get_by_role("link", name=tab).click()
        expect(page.locator(".tabs [aria-current]")).to_contain_text(tab)
    page.get_by_role("link", name="Retry", exact=True).click()
    confirm(page, "Retry")
    eventually(lambda: len(shop.task(failed).runs) > 1, 60)
    page.goto("/task" + query(id=shop.ended(failed).task_id))
    page.get_by_role("link", name="Send again").click()
    confirm(page, "Send", payload='{"order": 8, "cents": 1}')
    fresh = page.url.partition("id=")[2]
    shop.ended(fresh)
    expect(page.locator(".title .status")).to_have_text("completed", timeout=60_000)
    waiting = shop.send("greet", queue=unique("nobody"))
    page.goto("/task" + query(id=waiting))
    expect(page.locator(".why")).to_contain_text("connected worker serves queue")
    page.get_by_role("link", name="Cancel").click()
    confirm(page, "Cancel", reason="not needed")
    assert shop.task(waiting).status == task_pb2.TASK_STATUS_CANCELLED


def test_a_workflow_is_walked_by_keyboard_and_goes_on_from_what_failed(browsed: Browsed, page: Page) -> None:
    rates = {"name": "convert_rates", "queue": "reports", "payload": b'{"day": 7}', "max_retries": 0}
    name = unique("walked")
    ids = send_flow(browsed.shop, {"rates": [], "skipped": ["rates"]}, {"rates": rates}, name=name)
    browsed.shop.ended(ids[""])
    page.goto("/workflows")
    page.get_by_role("link", name=name).click()
    box = page.locator("a.box.is-failed")
    expect(box).to_contain_text("rates")
    box.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#node")).to_contain_text("no rates of day 7")
    expect(page.locator("a.box[aria-current]")).to_contain_text("rates")
    page.locator("#node").get_by_role("link", name="Whole task").click()
    page.get_by_role("link", name="Node rates of its workflow").click()
    page.get_by_role("link", name="Retry from failed").click()
    confirm(page, "Retry")
    eventually(lambda: len(browsed.shop.task(ids["rates"]).runs) == 2, 60)


def test_tasks_are_chosen_by_clicks_and_all_that_match_are_retried(browsed: Browsed, page: Page) -> None:
    shop, name = browsed.shop, unique("chosen")
    ids = [shop.send(name) for _ in range(3)]
    page.goto("/tasks" + query(filter=f"name:{name}"))
    page.get_by_label("Select all on this page").check()
    expect(page.locator("[data-chosen]")).to_have_text("3 tasks selected")
    page.get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel")
    expect(page.locator("main > .said")).to_contain_text("3 cancelled")
    page.goto("/tasks" + query(filter=f"name:{name} status:cancelled"))
    page.get_by_role("link", name="Retry all").click()
    expect(page.locator("#question h1")).to_have_text("Retry 3 tasks?")
    confirm(page, "Retry")
    expect(page.locator(".title .status")).to_have_text("completed", timeout=60_000)
    assert {shop.task(each).status for each in ids} == {task_pb2.TASK_STATUS_QUEUED}


def test_everything_is_done_by_keyboard(browsed: Browsed, page: Page) -> None:
    shop, name = browsed.shop, unique("keys")
    ids = [shop.send(name, queue=name) for _ in range(3)]
    page.goto("/queues")
    expect(page.get_by_role("link", name=name)).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url("**/tasks")
    page.keyboard.press("/")
    page.keyboard.type(f"name:{name}")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("k")
    page.keyboard.press("x")
    expect(page.locator("[data-chosen]")).to_have_text("2 tasks selected")
    page.keyboard.press("c")
    expect(page.locator("#question")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#question")).not_to_be_visible()
    page.keyboard.press("c")
    expect(page.locator("#question")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("main > .said")).to_contain_text("2 cancelled")
    kept = [each for each in ids if shop.task(each).status == task_pb2.TASK_STATUS_QUEUED]
    assert len(kept) == 1
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type(name)
    expect(page.locator("#palette li").first).to_contain_text("queue")
    page.keyboard.press("Enter")
    page.wait_for_url("**/queue?name=*")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/task?id=*")


def test_the_filter_line_completes_its_words(page: Page) -> None:
    page.goto("/tasks")
    page.locator("#filter").press_sequentially("sta")
    expect(page.locator(".suggestions li").first).to_contain_text("status:")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#filter").press_sequentially("timed")
    expect(page.locator(".suggestions:visible li").first).to_contain_text("status:timed_out")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#filter")).to_have_value("status:timed_out ")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks?filter=status*")


def test_a_filter_is_kept_in_this_browser_until_it_is_forgotten(page: Page) -> None:
    line = f"name:{unique('kept')} label.a:b"
    page.goto("/tasks" + query(filter=line))
    page.get_by_role("button", name="Save").click()
    page.goto("/tasks")
    page.locator("[data-saved]").get_by_role("link", name=line).click()
    expect(page.locator("#filter")).to_have_value(line)
    page.get_by_role("button", name=f"Forget the filter {line}").click()
    expect(page.locator("[data-saved] a")).to_have_count(0)
    expect(page.get_by_role("button", name="Save")).to_be_visible()


def test_the_newest_filters_are_kept_and_shown_as_they_are(page: Page) -> None:
    page.goto("/tasks")
    page.evaluate("""() => localStorage.setItem("hyrex-filters:",
        JSON.stringify(["name:\u202egnp", ...Array.from({ length: 19 }, (_, at) => `name:n${at}`)]))""")
    page.goto("/tasks?filter=name:newest")
    links = page.locator("[data-saved] a")
    expect(links.first).to_have_text("name:\\u202egnp")
    page.get_by_role("button", name="Save").click()
    expect(links).to_have_count(20)
    expect(links.first).to_have_text("name:newest")
    expect(links.last).to_have_text("name:n17")


def test_a_kind_of_failure_leads_to_its_tasks_and_is_retried_by_clicks(browsed: Browsed, page: Page) -> None:
    shop = browsed.shop
    failed = shop.ended(shop.send("fail_clicked", b'{"text": "clicked"}', queue="reports")).task_id
    page.goto("/")
    page.locator("[aria-labelledby=failed-title] a.kind-link", has_text="fail_clicked").click()
    expect(page.locator("#filter")).to_have_value(
        f"name:fail_clicked status:failed dead:yes error:NonRetryable {at('fail_clicked')} newer:1d"
    )
    expect(page.locator(f"#t-{failed}")).to_be_visible()
    page.locator(".rail").get_by_role("link", name="Failures").click()
    page.locator("tr", has_text="fail_clicked").get_by_role("link", name="Retry all").click()
    confirm(page, "Retry")
    expect(page.locator("main > .said")).to_contain_text("It has begun")
    eventually(lambda: len(shop.task(failed).runs) > 1, 60)


def test_a_bulk_operation_is_stopped_by_a_click(browsed: Browsed, page: Page) -> None:
    """Whether it is quicker or not, the audit has that it was told to stop."""
    name = unique("stopped")
    for _ in range(3):
        browsed.shop.send(name)
    page.goto("/tasks/all/cancel" + query(filter=f"name:{name}"))
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.wait_for_url("**/operation?id=*")
    page.goto(page.url.replace("/operation?", "/operation/stop?"))
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("main > .said")).to_contain_text("It stops.")
    page.goto("/audit")
    expect(page.locator("tbody")).to_contain_text("bulk.stop")


def test_a_token_is_revoked_by_a_click(browsed: Browsed, page: Page) -> None:
    name = unique("revoked")
    with grpc.insecure_channel(browsed.shop.url.removeprefix("grpc://")) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        stub.CreateToken(wanted(name, "read"), timeout=60)
    page.goto("/tokens")
    page.locator("tr", has_text=name).get_by_role("link", name="Revoke", exact=True).click()
    confirm(page, "Revoke", typed=name)
    expect(page.locator("main > .said")).to_contain_text(f"{name} is revoked")
    expect(page.locator("tr", has_text=name)).to_have_count(0)


def test_a_page_follows_the_cluster_and_keeps_what_was_chosen(browsed: Browsed, page: Page) -> None:
    shop, name = browsed.shop, unique("live")
    first = shop.send(name)
    page.goto("/tasks" + query(filter=f"name:{name}"))
    page.locator("tbody input").check()
    page.locator("tbody a").first.focus()
    shop.send(name)
    expect(page.locator(".pill")).to_have_text("1 newer", timeout=60_000)
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody input")).to_be_checked()
    assert page.evaluate("document.activeElement.closest('tr')?.id") == f"t-{first}"
    page.locator(".pill").click()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_a_hidden_page_is_paused(page: Page) -> None:
    page.goto("/")
    expect(page.locator("live-state")).to_have_attribute("data-state", "live", timeout=60_000)
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    expect(page.locator("live-state")).to_have_text("paused")
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: false, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    expect(page.locator("live-state")).to_have_attribute("data-state", "live", timeout=60_000)


def test_without_a_broker_the_last_values_stay_and_it_is_said(browsed: Browsed, page: Page) -> None:
    page.goto("/workers")
    rows = page.locator("tbody tr").count()
    assert rows >= 1
    expect(page.locator("live-state")).to_have_attribute("data-state", "live", timeout=60_000)
    browsed.stop_broker()
    expect(page.locator("live-state")).to_have_text("no broker", timeout=60_000)
    assert page.locator("tbody tr").count() == rows
    page.goto("/queues")
    expect(page.locator("h1")).to_have_text("No broker answers")
    browsed.start_broker()
    expect(page.locator("h1")).to_have_text("Queues", timeout=60_000)


def test_a_worker_is_drained_by_a_click(browsed: Browsed, page: Page) -> None:
    page.goto("/workers")
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="Drain").click()
    confirm(page, "Drain")
    expect(page.locator("main")).to_contain_text("No worker is connected", timeout=60_000)
    assert re.search(r"/workers$", page.url)
