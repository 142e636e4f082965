"""The axis of a workflow's times: its marks are round, and what happened has most of it."""

import pytest
from playwright.sync_api import Page

from hyrex.dashboard.graph.waterfall import MARKS, axis_s
from hyrex.dashboard.render.values import duration, query
from tests.dashboard.chromium import Browsed
from tests.dashboard.flows import send_flow


@pytest.mark.parametrize(
    ("seconds", "marks"),
    [
        (0, "0 ms, 1 ms, 2 ms, 3 ms, 4 ms"),
        (0.35, "0 ms, 100 ms, 200 ms, 300 ms, 400 ms"),
        (4.0, "0 ms, 1.0 s, 2.0 s, 3.0 s, 4.0 s"),
        (4.08, "0 ms, 1.2 s, 2.4 s, 3.6 s, 4.8 s"),
        (59, "0 ms, 15 s, 30 s, 45 s, 1 min"),
        (200, "0 ms, 1 min, 2 min, 3 min, 4 min"),
        (10_000, "0 ms, 45 min, 1 h 30 min, 2 h 15 min, 3 h"),
        (14_401, "0 ms, 2 h, 4 h, 6 h, 8 h"),
    ],
)
def test_marks_are_round(seconds: float, marks: str) -> None:
    axis = axis_s(seconds)
    assert ", ".join(duration(axis * place / (MARKS - 1)) for place in range(MARKS)) == marks


@pytest.mark.parametrize("power", range(-2, 7))
def test_what_happened_fits_and_has_at_least_half_of_it(power: int) -> None:
    for part in range(10, 100):
        seconds = part * 10.0**power / 10
        assert 0.45 * axis_s(seconds) < seconds <= axis_s(seconds) * 1.001


def test_each_mark_begins_at_its_line_and_the_last_one_ends_there(browsed: Browsed, page: Page) -> None:
    ids = send_flow(browsed.shop, {"first": [], "second": ["first"]}, {})
    page.goto("/workflow" + query(id=ids[""]))
    page.locator(".marks").wait_for()
    places = page.evaluate(
        "(() => { const whole = document.querySelector('.marks').getBoundingClientRect();"
        " return [...document.querySelectorAll('.marks > *')].map(mark => {"
        " const own = mark.getBoundingClientRect();"
        " return [(own.left - whole.left) / whole.width, (own.right - whole.left) / whole.width] }) })()"
    )
    lines = [0.0, 0.25, 0.5, 0.75]
    assert [left for left, _ in places[:4]] == pytest.approx(lines, abs=0.01)
    assert places[4][1] == pytest.approx(1.0, abs=0.01)
