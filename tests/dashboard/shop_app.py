"""A shop: what the tests of the dashboard and its screenshots look at."""

import time
from typing import Any

from hyrex import HyrexApp, HyrexRegistry, NonRetryable, get_hyrex_context

hy = HyrexRegistry()


@hy.task(queue="mail")
def send_welcome(to: str, template: str = "welcome") -> dict[str, Any]:
    """Fails for addresses that end with .bad."""
    if to.endswith(".bad"):
        raise ConnectionError(f"mx1.example.org refused {to}: 421 too many connections")
    return {"sent": to, "message": 12345678901234567890123, "cost": 1.10}


@hy.task(queue="billing", max_retries=2, retry_backoff=0.2)
def charge_card(order: int, cents: int) -> str:
    """Fails for each seventh order, every time."""
    return settle(order, cents)


def settle(order: int, cents: int) -> str:
    if order % 7 == 0:
        raise ValueError(f"order {order}: the card was declined")
    return f"charged {cents}"


@hy.task(queue="images")
def resize(image: str, seconds: float) -> None:
    """Takes its time."""
    time.sleep(seconds)


@hy.task(queue="reports")
def monthly_report(month: str) -> int:
    """Sends tasks of its own."""
    for size in range(3):
        resize.send(image=f"{month}-{size}.png", seconds=0)
    return 3


@hy.task(queue="images")
def count_to(total: int, seconds: float) -> None:
    """Tells how far it is, then takes its time."""
    context = get_hyrex_context()
    assert context is not None, "it is called by a worker"
    context.progress(total // 2, total, "half of <b>them</b>")
    time.sleep(seconds)


@hy.task(queue="reports")
def fail_with(text: str) -> None:
    """Fails with any text."""
    raise NonRetryable(text)


@hy.task(queue="reports")
def fail_listed(text: str) -> None:
    """As fail_with, for one test alone; of another type where the text is so."""
    raise LookupError(text) if text == "other" else NonRetryable(text)


@hy.task(queue="reports")
def fail_clicked(text: str) -> None:
    """As fail_with, for one test alone."""
    raise NonRetryable(text)


@hy.task(queue="reports")
def fail_dismissed() -> None:
    """Fails; the test that sends it dismisses all of its name."""
    raise NonRetryable("dealt with")


@hy.task(queue="reports", name="fail*")
def fail_with_a_star() -> None:
    """Fails; in a filter its name fits others, too."""
    raise NonRetryable("starred")


@hy.task(queue="reports")
def export_day(day: int) -> list[int]:
    """The orders of a day."""
    return [day * 10 + place for place in range(3)]


@hy.task(queue="reports", max_retries=1, retry_backoff=0.3)
def convert_rates(day: int) -> float:
    """Fails on each seventh day, every time."""
    if day % 7 == 0:
        raise ConnectionError(f"no rates of day {day}")
    return 1.1


@hy.task(queue="images")
def draw_page(number: int, orders: list[int], seconds: float = 0) -> str:
    """One of many pages."""
    time.sleep(seconds)
    return f"page {number}.png"


@hy.task(queue="reports")
def bind(pages: list[str], rate: float) -> str:
    """The pages as one."""
    return f"{len(pages)} pages at {rate}"


@hy.task(queue="mail")
def publish(report: str) -> str:
    """Send it to everybody."""
    return report


@hy.task(queue="mail")
def tell_office(day: int, report: str = "no report") -> str:
    """Tell how it went, whatever became of it."""
    return f"{day}: {report}"


@hy.workflow(queue="reports")
def daily_report(day: int, pages: int = 12, seconds: float = 0) -> str:
    """Some steps, many pages, and an end that always runs."""
    orders = export_day.node(day)
    rate = convert_rates.node(day)
    drawn = [draw_page.node(number, orders.result, seconds) for number in range(pages)]
    report = bind.node([each.result for each in drawn], rate.result)
    publish.node(report.result)
    tell_office.node(day, report.result).runs_anyway()
    return report.result


app = HyrexApp("shop")
app.add_registry(hy)
