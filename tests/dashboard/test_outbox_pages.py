"""Refused rows of the outbox on the dashboard: seen, mended, tried again and removed."""

import html
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.pages.outbox import _told
from hyrex.v1 import admin_service_pb2 as pb
from tests.dashboard.chromium import Browsed, confirm
from tests.dashboard.shop import Reader, Shop, unique
from tests.support.eventually import eventually
from tests.support.postgres import connect, run_apart

HOSTILE = '"><script>alert(1)</script>'


def refused_row(url: str, queue: str, name: str = "tell_office", **options: Any) -> str:
    """A row that a broker has refused; its id."""
    row_id = new_task_id()

    async def insert() -> None:
        connection = await connect(url)
        await connection.execute(
            "insert into hyrex.outbox (id, task, queue, payload, options, held, reason, held_at)"
            " values ($1, $2, $3, '{\"day\": 1}', $4, 'refused', $5, now())",
            row_id, name, queue, json.dumps(options),
            "this broker does not know option 'later'; update the brokers",
        )  # fmt: skip
        await connection.close()

    with ThreadPoolExecutor(1) as elsewhere:  # a browser of playwright has a loop in this thread
        elsewhere.submit(lambda: run_apart(insert())).result()
    return row_id


def test_a_refused_row_is_seen_changed_and_becomes_a_task(shop: Shop, reader: Reader) -> None:
    row_id = refused_row(shop.database_url, "mail", later=1)
    page = reader.text("/outbox")
    assert f'id="r-{row_id}"' in page
    assert "does not know option &#39;later&#39;" in page
    assert "Its row in the outbox was refused" in reader.text("/task", id=row_id)
    said = reader.act(f"/outbox/retry?id={row_id}")
    assert said == "One row refused again: this broker does not know option 'later'; update the brokers"
    asked = html.unescape(reader.text(f"/outbox/change?id={row_id}"))
    assert '{"later": 1}' in asked
    done = reader.act(f"/outbox/change?id={row_id}", options='{"priority": 9}', queue="mail")
    assert done == "One row relayed."
    assert shop.ended(row_id).priority == 9
    assert f'id="r-{row_id}"' not in reader.text("/outbox")
    assert reader.get(f"/outbox/change?id={row_id}").status_code == 404


def test_rows_of_a_queue_are_a_list_of_their_own_and_are_removed(shop: Shop, reader: Reader) -> None:
    queue = unique(HOSTILE)
    ids = [refused_row(shop.database_url, queue, HOSTILE, later=1) for _ in range(2)]
    other = refused_row(shop.database_url, "mail", later=1)
    page = reader.text("/outbox", queue=queue)
    assert (ids[0] in page, ids[1] in page, other in page, HOSTILE in page) == (True, True, False, False)
    assert "Try 2 rows again?" in reader.text(f"/outbox/retry?id={ids[0]}&id={ids[1]}")
    assert reader.act(f"/outbox/dismiss?id={ids[0]}&id={ids[1]}") == "2 rows removed."
    assert reader.act(f"/outbox/dismiss?id={other}") == "One row removed."
    assert "None. What is committed becomes a task" in reader.text("/outbox", queue=queue)


def test_the_overview_names_refused_rows_and_leads_to_them(shop: Shop, reader: Reader) -> None:
    queue = unique("refused")
    row_id = refused_row(shop.database_url, queue, later=1)
    eventually(lambda: f'href="/outbox?queue={queue}"' in reader.text("/"), 60, every_s=0.5)
    assert f"no task of queue &#39;{queue}&#39; comes of it" in reader.text("/")
    reader.act(f"/outbox/dismiss?id={row_id}")


def test_a_refused_row_is_mended_by_clicks(browsed: Browsed, page: Page) -> None:
    row_id = refused_row(browsed.shop.database_url, "mail", later=1)
    gone = refused_row(browsed.shop.database_url, "mail", later=1)
    page.goto("/")
    page.get_by_role("link", name="Outbox of mail").click()
    row, other = (page.locator(f"#r-{each}") for each in (row_id, gone))
    row.get_by_role("link", name="Change").click()
    confirm(page, "Change", options='{"priority": 2}')
    expect(page.locator("main > .said")).to_have_text("One row relayed.")
    expect(row).to_have_count(0)
    other.get_by_role("link", name="Dismiss").click()
    page.locator("#question").get_by_role("link", name="Keep as it is").click()
    expect(other).to_have_count(1)
    other.get_by_role("link", name="Dismiss").click()
    confirm(page, "Remove")
    expect(page.locator("#live_rows")).to_contain_text("None. What is committed becomes a task")
    assert browsed.shop.ended(row_id).priority == 2


@pytest.mark.parametrize(
    ("outcomes", "words", "bad"),
    [
        ([1, 1, 2], "2 rows relayed, one row waiting for room in the queue.", False),
        ([4], "One row no longer refused.", False),
        ([1, 3], "One row relayed, one row refused again: odd", True),
    ],
)
def test_what_became_of_rows_is_said(
    outcomes: list[pb.RetryRowOutcome.ValueType], words: str, bad: bool
) -> None:
    results = [pb.RetryRowResult(outcome=each, reason="odd" if each == 3 else "") for each in outcomes]
    assert _told(results) == (words, "/outbox", bad)
